"""Every caller before every wire: one cell is one feature, asked for, translated, answered, and read again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from adapters.dialects.anthropic import client as anthropic_client
from adapters.dialects.anthropic import server as anthropic_server
from adapters.dialects.anthropic.codec import AnthropicCodec
from adapters.dialects.anthropic.conversation_writer import LOSSES as ANTHROPIC_LOSSES
from adapters.dialects.callers import CALLERS as CODECS
from adapters.dialects.gemini import client as gemini_client
from adapters.dialects.gemini.codec import GeminiCodec
from adapters.dialects.gemini.conversation_writer import LOSSES as GEMINI_LOSSES
from adapters.dialects.openai_chat import client as chat_client
from adapters.dialects.openai_chat import server as chat_server
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_chat.target import LOSSES as CHAT_LOSSES
from adapters.dialects.openai_responses import client as responses_client
from adapters.dialects.openai_responses import server as responses_server
from adapters.dialects.openai_responses.codec import ResponsesCodec
from adapters.dialects.openai_responses.conversation_writer import LOSSES as RESPONSES_LOSSES
from adapters.dialects.translation import DROPPED_HEADER, TranslatedVendor, VendorCodec
from adapters.dialects.translation import Wire as TranslationWire
from adapters.vendors.openai import OPENAI
from domain.catalog import Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.ports.vendors import ChatAnswer, ChatStream
from tests.contracts.dialect_answers import ANSWERS, Said, expected
from tests.contracts.dialect_expectations import EXPECTATIONS
from tests.contracts.dialect_readings import READINGS
from tests.contracts.dialect_requests import REQUESTS, streamed

SERVERS: Final[Mapping[Dialect, ModuleType]] = {
    Dialect.OPENAI_CHAT: chat_server,
    Dialect.ANTHROPIC: anthropic_server,
    Dialect.OPENAI_RESPONSES: responses_server,
}
OpenStream = Callable[[AsyncIterator[bytes], bool], ChatStream]


@dataclass(frozen=True)
class Wire:
    """A vendor's language: its codec, and its own client over bytes in memory."""

    name: str
    dialect: Dialect
    codec: VendorCodec
    model: str
    write: Callable[[ChatCall], bytes]
    read: Callable[[bytes, Mapping[str, str]], ChatAnswer]
    open: OpenStream
    losses: Mapping[str, str]


def _hang_up() -> None:
    """Nothing is connected."""


WIRES: Final = {
    wire.name: wire
    for wire in (
        Wire(
            "OpenAI",
            Dialect.OPENAI_CHAT,
            OpenAIChatCodec(OPENAI.quirks),
            "gpt-5.2",
            chat_client.write_request,
            chat_client.read_answer,
            lambda chunks, usage: chat_client.OpenAIChatStream(chunks, _hang_up, {}, shows_usage=usage),
            CHAT_LOSSES,
        ),
        Wire(
            "Anthropic",
            Dialect.ANTHROPIC,
            AnthropicCodec(),
            "claude-opus-4-8",
            anthropic_client.write_request,
            anthropic_client.read_answer,
            lambda chunks, _: anthropic_client.AnthropicStream(chunks, _hang_up, {}),
            ANTHROPIC_LOSSES,
        ),
        Wire(
            "Gemini",
            Dialect.GEMINI,
            GeminiCodec(),
            "gemini-3.1-pro-preview",
            gemini_client.write_request,
            gemini_client.read_answer,
            lambda chunks, _: gemini_client.GeminiStream(chunks, _hang_up, {}),
            GEMINI_LOSSES,
        ),
        Wire(
            "Responses",
            Dialect.OPENAI_RESPONSES,
            ResponsesCodec(),
            "gpt-5.2",
            responses_client.write_request,
            responses_client.read_answer,
            lambda chunks, _: responses_client.ResponsesStream(chunks, _hang_up, {}),
            RESPONSES_LOSSES,
        ),
    )
}
SLUG: Final = VendorSlug("fake")
LOST: Final[Mapping[tuple[str, str], str]] = {
    # The wire has no such thing; the name stands in the writer's table of losses.
    ("Responses", "stop sequences"): "stop",
}
"""Features that a wire cannot say, by the name under which its writer declares the loss."""
SILENT: Final = frozenset({("Gemini", "refusal")})
"""A filter of this wire ends the answer without a word: what is refused is told, in which words is not."""


@dataclass
class NativeVendor:
    """A vendor that only speaks its own wire, and answers with its true bytes, cut anywhere."""

    wire: Wire
    said: Said
    slug: VendorSlug = SLUG
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def complete(self, call: ChatCall) -> ChatAnswer:
        self.sent.append(json.loads(self.wire.write(call)))
        return self.wire.read(ANSWERS[self.wire.name][0](self.said), {})

    async def stream(self, call: ChatCall) -> ChatStream:
        self.sent.append(json.loads(self.wire.write(call)))
        return self.wire.open(_cut(ANSWERS[self.wire.name][1](self.said)), call.request.wants_usage)


async def _cut(whole: bytes, size: int = 37) -> AsyncIterator[bytes]:
    for at in range(0, len(whole), size):
        yield whole[at : at + size]


@dataclass(frozen=True)
class Cell:
    caller: Dialect
    wire: str
    feature: str
    streams: bool

    @property
    def asked(self) -> dict[str, Any] | None:
        """None where the caller's own dialect cannot ask for it."""
        request = REQUESTS[self.caller][self.feature]
        return streamed(request, self.caller) if request is not None and self.streams else request

    @property
    def lost_as(self) -> str | None:
        own = WIRES[self.wire].dialect is self.caller
        return None if own else LOST.get((self.wire, self.feature))


async def check(cell: Cell) -> str:
    """What the cell is: "kept", "lost" or "none"; raises AssertionError where the translation is wrong."""
    asked = cell.asked
    if asked is None:
        return "none"
    wire, said = WIRES[cell.wire], expected(cell.feature)
    native = NativeVendor(wire, said)
    vendor = TranslatedVendor((TranslationWire(native, wire.dialect, wire.codec),), CODECS)
    request = SERVERS[cell.caller].read_request(json.dumps(asked).encode())
    call = ChatCall(request=request, vendor_model=wire.model, id="r1", at_s=1_760_000_000, output_max=64_000)
    if cell.streams:
        stream = await vendor.stream(call)
        told = b"".join([piece async for piece in stream])
        headers, counted = stream.headers, stream.usage
    else:
        answer = await vendor.complete(call)
        told, headers, counted = answer.body, answer.headers, answer.usage
    assert counted is not None
    _check_sent(cell, native.sent, wire)
    dropped = headers.get(DROPPED_HEADER, "").split(", ")
    _check_told(cell, said, READINGS[cell.caller][cell.streams](told))
    if cell.lost_as is None:
        assert not [name for name in dropped if name and name != "tool_results"], dropped
        return "kept"
    assert cell.lost_as in wire.losses
    assert any(name.startswith(cell.lost_as) for name in dropped), dropped
    return "lost"


def _check_sent(cell: Cell, sent: list[dict[str, Any]], wire: Wire) -> None:
    (request,) = sent
    if wire.dialect is not Dialect.GEMINI:
        # Gemini is told both in the address.
        assert request["model"] == wire.model
        assert bool(request.get("stream")) == cell.streams
    EXPECTATIONS[cell.wire](cell.feature, request)


def _check_told(cell: Cell, wanted: Said, read: Said) -> None:
    assert (read.calls, read.refused) == (wanted.calls, wanted.refused)
    # How a thought of a vendor's is refused in words is not thinking, and a silent filter has no words.
    silent = (cell.wire, cell.feature) in SILENT
    assert read.text == ("" if silent else wanted.text)
    assert read.thought == wanted.thought
    both_tell_stops = cell.caller is Dialect.ANTHROPIC and cell.wire == "Anthropic"
    if wanted.finish == "stop" and not both_tell_stops:
        # Most dialects do not tell a stop sequence from an end.
        assert read.finish in ("end", "stop")
    else:
        assert read.finish == wanted.finish
