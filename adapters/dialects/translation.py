"""From the caller's dialect to the vendor's and back, where they differ.

A vendor's adapter only knows its own words ("native").  `TranslatedVendor` stands before it: a request in another
dialect is read into the canonical `Conversation` and written in the vendor's words; the native adapter then does what
it always does (output limit, model name, faults, usage), and its answer is read into the canonical `Reply` and written
in the caller's.  Where the vendor speaks the caller's dialect, nothing is read or written: bytes pass through.

Each dialect is a codec of two halves.  `CallerCodec` reads requests and writes answers (what our callers speak);
`VendorCodec` writes requests and reads answers (what vendors speak).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from adapters.dialects.refusals import MODELS_MAX, LearntRefusals
from domain.catalog import Dialect
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.conversation import Conversation, Written
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.holds import produced_usage
from domain.inference.reply import Reply, ReplyEvent
from domain.money import Usd
from domain.ports.vendors import ChatAnswer, ChatStream, ChatVendor
from domain.usage import Usage

DROPPED_HEADER = "x-gatewayz-dropped-params"
GATEWAYS_OWN = frozenset({"store", "background"})
"""Members that no other dialect has because the gateway itself does for its callers what they ask."""
DROPPED_LENGTH_MAX = 2_000
"""Clients refuse answers with long headers."""
DROPPED_NAME_MAX = 100


_T = TypeVar("_T")


class ReplyReader(Protocol):
    """Reads one stream of a vendor's."""

    def feed(self, events: bytes) -> Sequence[ReplyEvent]:
        """What some whole events, as the native stream yields them, tell.  Raises VendorFault where unreadable."""
        ...

    def end(self) -> Sequence[ReplyEvent]:
        """What was held back until the vendor had finished."""
        ...


class ReplyWriter(Protocol):
    """Writes one stream for a caller."""

    def write(self, events: Sequence[ReplyEvent], usage: Usage | None) -> bytes:
        """Whole events in the caller's dialect, or none.  `usage` is what the vendor has told so far."""
        ...

    def end(self, usage: Usage) -> bytes:
        """The frames after which nothing comes."""
        ...


class CallerCodec(Protocol):
    def read_conversation(self, body: bytes) -> Conversation:
        """Raises InvalidRequest, naming the member that cannot be read."""
        ...

    def write_reply(self, reply: Reply, usage: Usage, call: ChatCall) -> bytes: ...

    def reply_writer(self, call: ChatCall) -> ReplyWriter: ...


class VendorCodec(Protocol):
    def write_conversation(self, conversation: Conversation, call: ChatCall) -> Written:
        """The request, streamed if `call.request.streamed`, with `call.vendor_model` as its model.

        Raises UnsupportedParameter for what must not be dropped silently: what would change the answer's meaning.
        """
        ...

    def read_reply(self, body: bytes) -> Reply:
        """Raises VendorFault for what is no answer."""
        ...

    def reply_reader(self) -> ReplyReader: ...


class Wire(Struct, frozen=True):
    """One language of a vendor's server: who speaks it, and its codec."""

    native: ChatVendor
    dialect: Dialect
    codec: VendorCodec


class TranslatedVendor:
    """The port `ChatVendor` for callers of every dialect; the first of `wires` serves those that none speaks.

    `further` are endpoints of the vendor that serve only callers of their own dialect: tasks beside chat, and second
    chat languages that nothing is translated into.  Where a server lacks such a second language, for all models or for
    one, as imitations of OpenAI's lack Responses, its callers are translated like those of any other.
    """

    def __init__(
        self,
        wires: Sequence[Wire],
        callers: Mapping[Dialect, CallerCodec],
        further: Mapping[Dialect, ChatVendor] = {},
    ) -> None:
        self.slug = wires[0].native.slug
        self._natives = {**further, **{wire.dialect: wire.native for wire in wires}}
        self._first = wires[0]
        self._callers = callers
        self._refusals = LearntRefusals()
        self._lacking: OrderedDict[tuple[Dialect, str], None] = OrderedDict()

    async def complete(self, call: ChatCall) -> ChatAnswer:
        native = self._native(call)
        if native is not None:
            try:
                return await native.complete(call)
            except VendorFault as fault:
                if not self._may_be_translated(call, fault):
                    raise
        caller, conversation = self._read(call)
        answer, dropped = await self._asked(call, conversation, self._first.native.complete)
        self._learn_lacking(call)
        usage = answer.usage or produced_usage(call.request, answer.produced_tokens)
        body = caller.write_reply(self._first.codec.read_reply(answer.body), usage, call)
        return replace(answer, dialect=call.request.dialect, body=body, headers=_with_dropped(answer.headers, dropped))

    async def stream(self, call: ChatCall) -> ChatStream:
        native = self._native(call)
        if native is not None:
            try:
                return await native.stream(call)
            except VendorFault as fault:
                if not self._may_be_translated(call, fault):
                    raise
        caller, conversation = self._read(call)
        stream, dropped = await self._asked(call, conversation, self._first.native.stream)
        self._learn_lacking(call)
        return TranslatedStream(
            stream, self._first.codec.reply_reader(), caller.reply_writer(call), call.request, dropped
        )

    def _native(self, call: ChatCall) -> ChatVendor | None:
        """Who takes the request as it is."""
        dialect = call.request.dialect
        return None if (dialect, call.vendor_model) in self._lacking else self._natives.get(dialect)

    def _may_be_translated(self, call: ChatCall, fault: VendorFault) -> bool:
        """Whether the server may know the model and merely not this language: both are answered with 404."""
        dialect = call.request.dialect
        return fault.kind is FaultKind.MODEL_MISSING and dialect != self._first.dialect and dialect in self._callers

    def _learn_lacking(self, call: ChatCall) -> None:
        """The model answers in other words: it is not asked in the caller's again while this process lives."""
        if call.request.dialect in self._natives:
            self._lacking[call.request.dialect, call.vendor_model] = None
            if len(self._lacking) > MODELS_MAX:
                self._lacking.popitem(last=False)

    def _read(self, call: ChatCall) -> tuple[CallerCodec, Conversation]:
        request = call.request
        caller = self._callers.get(request.dialect)
        if caller is None:
            # What is no conversation (an embedding, a picture) cannot be had by translating.
            raise VendorFault(FaultKind.MODEL_MISSING, f"it has nothing that answers {request.dialect}")
        return caller, caller.read_conversation(request.body)

    async def _asked(
        self, call: ChatCall, conversation: Conversation, ask: Callable[[ChatCall], Awaitable[_T]]
    ) -> tuple[_T, Sequence[str]]:
        """What the vendor says to the conversation in its words, and what these could not say.

        Once for each member that it refuses to be told, the conversation is written again without it.
        """
        if call.output_limit is not None and conversation.output_max is not None:
            # A dialect that has a limit of its own, where the caller names none, may set it lower than credit does.
            call = replace(call, output_limit=min(call.output_limit, conversation.output_max))
        while True:
            spared, left_out = self._refusals.spared(conversation, call.vendor_model)
            written = self._first.codec.write_conversation(spared, call)
            theirs = replace(
                call.request, dialect=self._first.dialect, body=written.body, parsed=None, wants_usage=True
            )
            try:
                dropped = [name for name in (*left_out, *written.dropped) if name not in GATEWAYS_OWN]
                return await ask(replace(call, request=theirs)), dropped
            except VendorFault as fault:
                if not self._refusals.learn(fault, spared, call.vendor_model):
                    raise


class TranslatedStream:
    """The port `ChatStream` over a native one."""

    def __init__(
        self,
        native: ChatStream,
        reader: ReplyReader,
        writer: ReplyWriter,
        request: ChatRequest,
        dropped: Sequence[str],
    ) -> None:
        self.dialect = request.dialect
        self.headers = _with_dropped(native.headers, dropped)
        self._native = native
        self._reader = reader
        self._writer = writer
        self._request = request

    @property
    def started(self) -> bool:
        return self._native.started

    @property
    def usage(self) -> Usage | None:
        return self._native.usage

    @property
    def vendor_cost(self) -> Usd | None:
        return self._native.vendor_cost

    @property
    def finish_reason(self) -> str | None:
        return self._native.finish_reason

    async def __aiter__(self) -> AsyncIterator[bytes]:
        native, reader, writer = self._native, self._reader, self._writer
        async for piece in native:
            yield writer.write(reader.feed(piece), native.usage) if piece else piece
        rest = writer.write(reader.end(), native.usage)
        yield rest + writer.end(native.usage or produced_usage(self._request, native.produced_tokens()))

    def produced_tokens(self) -> int:
        return self._native.produced_tokens()

    def produced_at_most(self) -> int:
        return self._native.produced_at_most()

    def close(self) -> None:
        self._native.close()


def _with_dropped(headers: Mapping[str, str], dropped: Sequence[str]) -> Mapping[str, str]:
    """What the words of the vendor could not say, beside what the vendor itself does not take."""
    if not dropped:
        return headers
    named = [name for name in headers.get(DROPPED_HEADER, "").split(", ") if name]
    told = ", ".join(dict.fromkeys((*named, *map(_in_a_header, dropped))))
    if len(told) > DROPPED_LENGTH_MAX:
        told = f"{told[:DROPPED_LENGTH_MAX].rpartition(', ')[0]}, ..."
    return {**headers, DROPPED_HEADER: told}


def _in_a_header(name: str) -> str:
    """A member's name, which callers choose, as one word of a list that cannot leave its line."""
    plain = (c if c.isascii() and c.isprintable() and c != "," else "?" for c in name[:DROPPED_NAME_MAX])
    return "".join(plain)
