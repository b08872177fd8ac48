"""What translation between dialects costs, beside a bare passthrough of the same run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import Struct

from tests.benchmarks import gateway
from tests.benchmarks.load import Measured, request, run
from tests.benchmarks.rig import CHUNKS, Rig, rig
from tests.benchmarks.rows import Row, Wanted, at_most
from tests.e2e.processes import ADMIN_KEY

CALLERS: Final = 16
STREAMS: Final = 64
STREAM_BAR: Final = 6.0
AGENT_REQUESTS: Final = 200
AGENT_BYTES: Final = 100_000
AGENT_TOOLS: Final = 25
AGENT_BAR_MS: Final = 5.0
MODEL: Final = "peer/model"
SYSTEM: Final = "You are a helpful assistant."
ASKED: Final = "What is the weather like in the mountains today?"


class _Speaker(Struct, frozen=True):
    """A dialect other than the vendor's, as its callers stream in it."""

    name: str
    path: str
    body: bytes


def _encoded(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, **members}, separators=(",", ":")).encode()


SPEAKERS: Final = (
    _Speaker(
        "messages-stream",
        "/v1/messages",
        _encoded(max_tokens=1_000, system=SYSTEM, messages=[{"role": "user", "content": ASKED}], stream=True),
    ),
    _Speaker("responses-stream", "/v1/responses", _encoded(instructions=SYSTEM, input=ASKED, store=False, stream=True)),
)
AGENT: Final = "messages-agent"
NAMES: Final = (*(speaker.name for speaker in SPEAKERS), AGENT)


def agent_request() -> bytes:
    """What a coding agent sends with each step: long instructions, many tools, some turns with calls and results."""
    parameters = {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": f"The {name} to work with, as an absolute path. " * 3}
            for name in ("path", "pattern", "command", "old_text", "new_text", "note")
        },
        "required": ["path", "pattern"],
        "additionalProperties": False,
    }
    tools = [
        {"name": f"Tool{number}", "description": "Does one thing, and does it well. " * 20, "input_schema": parameters}
        for number in range(AGENT_TOOLS)
    ]
    turns: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]
    for number in range(20):
        call = {"type": "tool_use", "id": f"toolu_{number:04}", "name": "Tool1", "input": {"path": f"/src/{number}.py"}}
        result = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{number:04}",
            "content": "def one():\n    return 1\n" * 20,
        }
        turns += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    system = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    bare = len(_encoded(max_tokens=1_000, system=system, tools=tools, messages=turns))
    system[0]["text"] = SYSTEM + " Be careful." * ((AGENT_BYTES - bare) // 12)
    return _encoded(max_tokens=1_000, system=system, tools=tools, messages=turns)


async def rows(wanted: Wanted, rounds: int) -> AsyncIterator[Row]:
    with rig() as here:
        for speaker in SPEAKERS:
            if speaker.name in wanted:
                yield await _streamed(here, speaker, rounds)
        if AGENT in wanted:
            yield await _agent(here, rounds)


async def _streamed(here: Rig, speaker: _Speaker, rounds: int) -> Row:
    passed = [request(gateway.PATH, gateway.STREAMED, ADMIN_KEY)]
    asked = [request(speaker.path, speaker.body, ADMIN_KEY)]
    bares: list[Measured] = []
    ours: list[Measured] = []
    for _ in range(rounds):
        bares.append(await run(here.bare_port, here.bare_pid, passed, count=STREAMS, callers=CALLERS))
        ours.append(await run(here.gateway.port, here.gateway.pid, asked, count=STREAMS, callers=CALLERS))
    bare_us, ours_us = (min(each.cpu_us for each in side) / CHUNKS for side in (bares, ours))
    failed = sum(each.failed for each in ours)
    seen = f"{ours_us:.1f} us / bare {bare_us:.1f} us = {ours_us / bare_us:.2f} x" + (
        f", {failed} FAILED" * bool(failed)
    )
    what = f"translated stream, CPU per chunk, {CALLERS} callers"
    kept = ours_us <= STREAM_BAR * bare_us and not failed
    return Row(speaker.name, what, seen, f"<= {STREAM_BAR:g} x", kept)


async def _agent(here: Rig, rounds: int) -> Row:
    body = agent_request()
    asked = [request("/v1/messages", body, ADMIN_KEY)]
    measured = [
        await run(here.gateway.port, here.gateway.pid, asked, count=AGENT_REQUESTS, callers=1) for _ in range(rounds)
    ]
    figure = min(each.cpu_us for each in measured) / 1_000
    what = f"{len(body) // 1_000} KB, {AGENT_TOOLS} tools, translated, CPU"
    row = at_most(AGENT, what, figure, AGENT_BAR_MS, "ms")
    failed = sum(each.failed for each in measured)
    return Row(row.name, row.what, f"{row.seen}, {failed} FAILED", row.bar, kept=False) if failed else row
