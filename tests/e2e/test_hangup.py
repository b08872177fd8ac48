"""One process alone that is told to hang up, by a closed terminal or a reload, stops as gently as by SIGTERM."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.processes import ADMIN_KEY, GatewayProcess


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_stream_that_runs_may_finish(number: signal.Signals, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path).start()
    assert gateway.process is not None
    try:
        asked = {"model": "sandbox/slow", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
        request = urllib.request.Request(
            f"{gateway.base_url}/v1/chat/completions",
            data=json.dumps(asked).encode(),
            headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            begun = answer.readline()
            gateway.process.send_signal(number)
            rest = answer.read()
        assert begun.startswith(b"data: ")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert gateway.process.wait(40) == 0
    finally:
        gateway.stop()
