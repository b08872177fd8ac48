"""The built-in vendor: models that echo, dawdle, fail and call tools, so that the gateway works without keys.

It stands where a vendor's server would: it reads the request that would go over the wire and answers with the
bytes that would come back, which the dialect's own reader then reads.  What each model answers is in
`sandbox_script`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.client import OpenAIChatStream, read_answer, write_request
from adapters.dialects.openai_chat.errors import read_fault
from adapters.transport.sse import data_event
from adapters.vendors.sandbox_script import (
    CONTEXT_LENGTH,
    MODEL_MISSING,
    OUTPUT_MAX,
    Ending,
    Failure,
    Script,
    UnreadableRequest,
    script_for,
)
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Capability, Dialect, Model, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.clock import Clock
from domain.ports.vendors import ChatAnswer, ChatStream
from domain.pricing import Price, PriceSource, Rates

SANDBOX: Final = VendorSlug("sandbox")
OPENED: Final = datetime(2026, 1, 1, tzinfo=UTC)
CHUNKS_PER_TURN: Final = 32
"""After so many chunks without a pause, others get their turn."""

Sleep = Callable[[float], Awaitable[None]]

_DONE = b"data: [DONE]\n\n"
_BASIC = frozenset({Capability.STREAM, Capability.TOOLS, Capability.JSON_SCHEMA, Capability.IMAGES_IN})


class _Row(Struct, frozen=True):
    slug: str
    name: str
    description: str
    input_usd: str = "0.50"
    output_usd: str = "1.50"
    capabilities: frozenset[Capability] = _BASIC

    @property
    def model(self) -> Model:
        model_id = ModelId(f"{SANDBOX}/{self.slug}")
        rates = Rates(input=Usd.parse(self.input_usd).nanos, output=Usd.parse(self.output_usd).nanos)
        price = Price(
            id=PriceId(f"sandbox:{self.slug}:1"),
            vendor=SANDBOX,
            model=model_id,
            rates=rates,
            valid_from=OPENED,
            source=PriceSource.SANDBOX,
            free=rates.is_zero,
        )
        offer = Offer(
            vendor=SANDBOX,
            model=model_id,
            vendor_model=self.slug,
            price=price,
            context_length=CONTEXT_LENGTH,
            output_max=OUTPUT_MAX,
            capabilities=self.capabilities,
        )
        name = f"Sandbox: {self.name}"
        return Model(id=model_id, name=name, offers=(offer,), created=OPENED, description=self.description)


_ROWS = (
    _Row("echo", "Echo", "Repeats the last user message, word by word."),
    _Row("free", "Free echo", "Repeats the last user message and costs nothing.", "0", "0"),
    _Row("slow", "Slow", "Repeats the last user message, a word every 200 ms."),
    _Row("stall", "Stall", "Stands still before its first word, 20 s or as long as the message says ('3s')."),
    _Row("fail", "Fail", "Fails before its first word as the message says ('429', 'timeout', ...)."),
    _Row("fail-after", "Fail after", "Writes three words and then fails as the message says."),
    _Row("tool", "Tool", "Calls the first tool it is given, then repeats that tool's result."),
    _Row("reason", "Reason", "Thinks aloud before it answers.", "1", "4", _BASIC | {Capability.REASONING}),
    _Row("no-usage", "No usage", "Never reports what it used."),
    _Row("no-done", "No [DONE]", "Closes its stream without [DONE]."),
    _Row("cut", "Cut off", "Closes its stream without a finish."),
)

MODELS: Final = tuple(row.model for row in _ROWS)
"""Every model of the sandbox, each with its one offer and a price."""

_SLUGS = frozenset(row.slug for row in _ROWS)


class SandboxVendor:
    """A `ChatVendor` in this process.  Time and sleeping are given, so that tests need not wait."""

    slug = SANDBOX
    dialect = Dialect.OPENAI_CHAT
    abort_policy = CANCEL_AND_BILL_PRODUCED

    def __init__(self, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep

    async def complete(self, call: ChatCall) -> ChatAnswer:
        script, head = self._read(call)
        if script.failure is not None and script.failure.fault is not None:
            raise VendorFault(script.failure.fault, script.failure.message)
        pause_s = script.first_pause_s + script.pause_s * script.tokens
        await self._first_byte(pause_s, call.first_byte_s, self._sleep)
        if script.ending is Ending.BROKEN_OFF:
            raise VendorFault(FaultKind.BROKEN_OFF, "it broke its answer off")
        if script.failure is not None:
            raise _refusal(script.failure)
        if script.ending is Ending.MALFORMED:
            return read_answer(b"<html>Bad gateway</html>", {})
        return read_answer(msgspec.json.encode(_whole(script, head)), {})

    async def stream(self, call: ChatCall) -> ChatStream:
        script, head = self._read(call)
        if script.failure is not None and not script.failure_after:
            if script.failure.fault is not None:
                raise VendorFault(script.failure.fault, script.failure.message)
            raise _refusal(script.failure)
        line = _Line(self._sleep)
        chunks = self._chunks(script, _frames(script, head), line, call.first_byte_s)
        return OpenAIChatStream(chunks, line.close, {}, shows_usage=call.request.wants_usage)

    def _read(self, call: ChatCall) -> tuple[Script, dict[str, Any]]:
        """What will be answered, and the members that all its parts share.  Raises VendorFault."""
        model, body = call.vendor_model, write_request(call)
        if model not in _SLUGS:
            raise _refusal(MODEL_MISSING)
        try:
            script = script_for(model, body)
        except UnreadableRequest as refused:
            raise VendorFault(FaultKind.REFUSED, str(refused), status=400, param=refused.param) from None
        at = self._clock.now().timestamp()
        digest = blake2b(b"%f %b" % (at, body), digest_size=12).hexdigest()
        return script, {"id": f"chatcmpl-{digest}", "created": int(at), "model": model}

    async def _chunks(
        self, script: Script, frames: Iterable[bytes], line: _Line, first_byte_s: float
    ) -> AsyncIterator[bytes]:
        await self._first_byte(script.first_pause_s, first_byte_s, line.pause)
        for count, frame in enumerate(frames, 1):
            yield frame
            if line.closed:
                raise VendorFault(FaultKind.BROKEN_OFF, "it was hung up on")
            if script.pause_s:
                await line.pause(script.pause_s)
            elif count % CHUNKS_PER_TURN == 0:
                await self._sleep(0)
        if script.failure is not None and script.failure.fault is not None:
            raise VendorFault(script.failure.fault, script.failure.message)

    async def _first_byte(self, pause_s: float, first_byte_s: float, sleep: Sleep) -> None:
        if pause_s > first_byte_s:
            await sleep(first_byte_s)
            raise VendorFault(FaultKind.FIRST_BYTE_TIMEOUT, f"it sent nothing within {first_byte_s:g} s")
        if pause_s:
            await sleep(pause_s)


class _Line:
    """What stands for the connection: closing it ends a pause at once, also from another task."""

    def __init__(self, sleep: Sleep) -> None:
        self.closed = False
        self._sleep = sleep
        self._nap: asyncio.Future[None] | None = None

    async def pause(self, seconds: float) -> None:
        self._nap = asyncio.ensure_future(self._sleep(seconds))
        try:
            await self._nap
        except asyncio.CancelledError:
            if self.closed:
                raise VendorFault(FaultKind.BROKEN_OFF, "it was hung up on") from None
            raise
        finally:
            self._nap = None

    def close(self) -> None:
        self.closed = True
        if self._nap is not None:
            self._nap.cancel()


def _refusal(failure: Failure) -> VendorFault:
    return read_fault(failure.status, failure.headers, msgspec.json.encode({"error": failure.error}))


def _whole(script: Script, head: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(script.words), "refusal": None}
    if script.tool is not None:
        message |= {"content": None, "tool_calls": [_tool_call(script, head, "".join(script.words))]}
    if script.reasoning:
        message["reasoning_content"] = "".join(script.reasoning)
    answers = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": script.finish_reason}
        for index in range(script.answers)
    ]
    usage = {"usage": _usage(script)} if script.reports_usage else {}
    return {"object": "chat.completion", **head, "choices": answers, **usage}


def _frames(script: Script, head: Mapping[str, Any]) -> Iterable[bytes]:
    """A stream's events in OpenAI's order: role, reasoning, content or tool call, finish, usage, [DONE]."""
    fixed = {"object": "chat.completion.chunk", **head}
    no_usage = {"usage": None} if script.reports_usage else {}

    def frames(delta: Mapping[str, Any], finish_reason: str | None = None) -> Iterable[bytes]:
        for index in range(script.answers):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            yield _event({**fixed, "choices": [choice], **no_usage})

    role = {"role": "assistant", "content": None if script.tool else "", "refusal": None}
    yield from frames(role)
    for piece in script.reasoning:
        yield from frames({"reasoning_content": piece})
    if script.tool is not None:
        yield from frames({"tool_calls": [{"index": 0, **_tool_call(script, head, "")}]})
    for word in script.words:
        part = {"tool_calls": [{"index": 0, "function": {"arguments": word}}]}
        yield from frames({"content": word} if script.tool is None else part)
    if script.failure is not None:
        if script.failure.fault is None:
            yield _event({"error": script.failure.error})
    elif script.ending is Ending.MALFORMED:
        yield data_event(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"')
    elif script.ending is not Ending.BROKEN_OFF:
        yield from frames({}, script.finish_reason)
        if script.reports_usage:
            yield _event({**fixed, "choices": [], "usage": _usage(script)})
        if script.ending is Ending.DONE:
            yield _DONE


def _event(payload: Mapping[str, Any]) -> bytes:
    return data_event(msgspec.json.encode(payload))


def _tool_call(script: Script, head: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    call_id = f"call_{head['id'].removeprefix('chatcmpl-')}"
    return {"id": call_id, "type": "function", "function": {"name": script.tool, "arguments": arguments}}


def _usage(script: Script) -> dict[str, Any]:
    output = script.tokens * script.answers
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": output,
        "total_tokens": script.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": len(script.reasoning) * script.answers,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
