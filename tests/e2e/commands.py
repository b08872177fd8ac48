"""`gatewayz` commands from a parent that has imported everything before: a fork each, instead of a start of Python.

A command's process is as alone as any other: its own directory, environment and files, and it ends with the command's
own exit status.  Importing is two thirds of what a command costs, and the tests run hundreds.  What is true only of a
fresh interpreter is tested where `gatewayz serve` is started, and where the pages' own commands are pasted.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMPORTED = (
    *(
        f"entrypoints.cli.{name}"
        for name in ("main", "accounts", "credits", "keys", "ledger", "prices", "running", "serve", "worker")
    ),
    "alembic.command",
)


class Commands:
    """The parent, started with the first command; one command runs at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parent: subprocess.Popen[bytes] | None = None

    def run(
        self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Raises TimeoutError."""
        with self._lock, tempfile.TemporaryDirectory(prefix="gatewayz-command-") as place:
            out, err = Path(place, "out"), Path(place, "err")
            order: dict[str, Any] = {
                "arguments": list(arguments),
                "directory": str(directory),
                "environ": dict(environ),
                "out": str(out),
                "err": str(err),
                "timeout_s": timeout_s,
            }
            parent = self._started()
            assert parent.stdin is not None
            assert parent.stdout is not None
            parent.stdin.write(json.dumps(order).encode() + b"\n")
            parent.stdin.flush()
            told = json.loads(parent.stdout.readline())
            if told["status"] is None:
                raise TimeoutError(f"gatewayz {' '.join(arguments)} took more than {timeout_s} s: {err.read_text()}")
            return subprocess.CompletedProcess(order["arguments"], told["status"], out.read_text(), err.read_text())

    def _started(self) -> subprocess.Popen[bytes]:
        if self._parent is None:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.commands"],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            atexit.register(self._end)
        return self._parent

    def _end(self) -> None:
        """The end of its input is the end of the parent."""
        if self._parent is not None:
            self._parent.communicate()
            self._parent = None


def serve_orders() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    answers = os.dup(1)
    for line in sys.stdin.buffer:
        os.write(answers, json.dumps({"status": carried_out(json.loads(line))}).encode() + b"\n")


def carried_out(order: Mapping[str, Any]) -> int | None:
    """The exit status; None where the command took too long."""
    pid = os.fork()
    if pid == 0:
        os._exit(obeyed(order))
    late = threading.Event()

    def end() -> None:
        late.set()
        os.kill(pid, 9)

    timer = threading.Timer(order["timeout_s"], end)
    timer.start()
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    timer.join()
    return None if late.is_set() else os.waitstatus_to_exitcode(status)


def obeyed(order: Mapping[str, Any]) -> int:
    """In the child: become the command."""
    from entrypoints.cli.main import main

    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, order["out"], None), (2, order["err"], None)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT if mode is None else mode, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.argv = ["gatewayz", *order["arguments"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the parent's own is in the middle of a line
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve_orders()
