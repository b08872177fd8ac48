"""A vendor that speaks OpenAI's dialect over a real socket and misbehaves exactly as scripted.

Four parts follow one another: what a vendor says (`Reply` and the builders), how it says it (`Script` and the
ready-made faults), the server (`Upstream`), and the peer of benchmarks (`FastUpstream`, which is also
`python -m tests.fakes.upstream`).  They stay in one file because a script is understood only beside the
server that plays it.  Bytes are written by hand, since every HTTP library refuses to write the malformed
ones, and no payload contains a clock or a random number, so that tests may compare whole answers.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import importlib
import json
import re
import signal
import socket
import struct
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, cast

Json = dict[str, Any]
Frame = bytes | Mapping[str, Any]
"""One server-sent event: an object for `data:`, or bytes to be written as they are."""

MODEL = "gpt-fake"
CREATED = 1_760_000_000
FINGERPRINT = "fp_fake0001"
TEXT_PIECES = ("Hello", " from", " the", " fake", " upstream", ".")
"""The default answer.  One piece counts as one token."""
PROMPT_TOKENS = 11
"""Every prompt counts as many, so that tests can name the price of a request."""
LIE = 10**12
"""More tokens than any window holds."""

DONE = b"data: [DONE]\n\n"
EIGHT_LETTERS = re.compile("(?s).{1,8}")


class Unasked:
    """The type of "nothing was said about it", where None would be an answer."""


UNASKED = Unasked()


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    id: str = "call_0001"
    name: str = "get_weather"
    arguments: str = '{"city":"Zürich","unit":"celsius"}'

    @property
    def whole(self) -> Json:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}

    @property
    def fragments(self) -> list[str]:
        return EIGHT_LETTERS.findall(self.arguments)


UsageAt = Literal["as_asked", "end", "finish", "both", "every", "x_groq", "nowhere"]
"""Where a stream reports its usage.  "as_asked" obeys `include_usage`, the others do not care for it."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model says; it can be told whole or streamed."""

    pieces: Sequence[str] | None = None
    """None: the default text, or none at all beside a tool call or a refusal."""
    finish: str | None = None
    """None: "stop", "length" or "tool_calls", whichever is true."""
    tool_calls: Sequence[ToolCall] = ()
    reasoning: Sequence[str] = ()
    refusal: str | None = None
    logprobs: bool = False
    usage: Mapping[str, Any] | None = None
    """None: the true count."""
    usage_at: UsageAt = "as_asked"
    obfuscation: bool = True
    strange: bool = False
    """Put a field nobody has heard of into every object."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More top-level fields, of the answer or of every chunk."""

    def cut_to(self, tokens_max: int | None) -> Reply:
        """The same reply under a token limit, which reasoning uses up first.  Tool calls are not cut."""
        if tokens_max is None or tokens_max >= len(self.reasoning) + len(self.spoken):
            return self
        thought = self.reasoning[:tokens_max]
        spoken = self.spoken[: tokens_max - len(thought)]
        return replace(self, reasoning=thought, pieces=spoken, finish="length")

    def whole(self, model: str) -> Json:
        choice = {
            "index": 0,
            "message": self._message(),
            "logprobs": self._logprobs(self.spoken) if self.logprobs else None,
            "finish_reason": self._finish_reason,
        }
        answer = _envelope("chat.completion", model, [choice])
        if self.usage_at != "nowhere":
            answer["usage"] = dict(self.usage_told)
        return self._dressed(answer)

    def streamed(self, model: str, *, include_usage: bool) -> list[Json]:
        """The chunks, without the `[DONE]` that follows them."""

        def chunk(choices: list[Json]) -> Json:
            return _envelope("chat.completion.chunk", model, choices)

        said = [chunk([self._choice(delta, None)]) for delta in self._deltas()]
        said.append(chunk([self._choice({}, self._finish_reason)]))
        if include_usage:
            for earlier in said:
                earlier["usage"] = None
        match self.usage_at:
            case "finish" | "both":
                said[-1]["usage"] = dict(self.usage_told)
            case "x_groq":
                said[-1]["x_groq"] = {"id": "req_fake", "usage": dict(self.usage_told)}
            case "every":
                for position, earlier in enumerate(said):
                    earlier["usage"] = self._usage_after(position)
        if self.usage_at in ("end", "both") or (self.usage_at == "as_asked" and include_usage):
            said.append(chunk([]) | {"usage": dict(self.usage_told)})
        if self.obfuscation:
            for position, told in enumerate(said):
                told["obfuscation"] = "aZ3kP9xQ7bTm"[: 1 + position * 5 % 12]
        return [self._dressed(told) for told in said]

    @property
    def spoken(self) -> Sequence[str]:
        if self.pieces is not None:
            return self.pieces
        return () if self.tool_calls or self.refusal is not None else TEXT_PIECES

    @property
    def usage_told(self) -> Mapping[str, Any]:
        if self.usage is not None:
            return self.usage
        called = sum(1 + len(call.fragments) for call in self.tool_calls)
        refused = len(EIGHT_LETTERS.findall(self.refusal or ""))
        thought = len(self.reasoning)
        return token_usage(completion=thought + len(self.spoken) + called + refused, reasoning=thought)

    @property
    def _finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    def _message(self) -> Json:
        text = "".join(self.spoken)
        silent = not text and (self.tool_calls or self.refusal is not None)
        message: Json = {
            "role": "assistant",
            "content": None if silent else text,
            "refusal": self.refusal,
            "annotations": [],
        }
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = [call.whole for call in self.tool_calls]
        return message

    def _deltas(self) -> Iterator[Json]:
        yield {"role": "assistant", "content": "" if self.spoken else None, "refusal": None}
        for thought in self.reasoning:
            yield {"reasoning_content": thought}
        for piece in self.spoken:
            yield {"content": piece}
        for index, call in enumerate(self.tool_calls):
            opening = {"name": call.name, "arguments": ""}
            yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": opening}]}
            for fragment in call.fragments:
                yield {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}
        for fragment in EIGHT_LETTERS.findall(self.refusal or ""):
            yield {"refusal": fragment}

    def _choice(self, delta: Json, finish: str | None) -> Json:
        piece = delta.get("content")
        logprobs = self._logprobs([piece]) if self.logprobs and piece else None
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    @staticmethod
    def _logprobs(pieces: Iterable[str]) -> Json:
        tokens = [
            {"token": piece, "logprob": -0.125, "bytes": list(piece.encode()), "top_logprobs": []} for piece in pieces
        ]
        return {"content": tokens, "refusal": None}

    def _usage_after(self, position: int) -> Json:
        """The cumulative count after so many chunks, the first of which carries no token."""
        told = self.usage_told
        spent = min(position, told["completion_tokens"])
        return {**told, "completion_tokens": spent, "total_tokens": told["prompt_tokens"] + spent}

    def _dressed(self, answer: Json) -> Json:
        dressed = {**answer, **self.extra}
        return cast(Json, _estranged(dressed)) if self.strange else dressed


def completion(
    text: str | None = None,
    *,
    model: str = MODEL,
    usage: Mapping[str, Any] | None = None,
    finish: str | None = None,
    tool_calls: Sequence[ToolCall] = (),
    reasoning: str | None = None,
    refusal: str | None = None,
    logprobs: bool = False,
    strange: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of a whole answer in OpenAI's true shape; without `usage` the text counts as one token."""
    reply = Reply(
        pieces=None if text is None else (text,),
        finish=finish,
        tool_calls=tool_calls,
        reasoning=() if reasoning is None else (reasoning,),
        refusal=refusal,
        logprobs=logprobs,
        usage=usage,
        strange=strange,
        extra=extra or {},
    )
    return encode(reply.whole(model))


def structured(value: object, *, model: str = MODEL, usage: Mapping[str, Any] | None = None) -> bytes:
    """A whole answer to a request with a JSON schema: the text is the document."""
    return completion(encode(value).decode(), model=model, usage=usage)


def chunks(
    text_pieces: Sequence[str] | None = None,
    *,
    model: str = MODEL,
    usage: Mapping[str, Any] | None = None,
    usage_at: UsageAt = "as_asked",
    include_usage: bool = True,
    finish: str | None = None,
    tool_calls: Sequence[ToolCall] = (),
    reasoning: Sequence[str] = (),
    refusal: str | None = None,
    logprobs: bool = False,
    obfuscation: bool = True,
    strange: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """The events of a streamed answer in OpenAI's true shape, up to but without `[DONE]`."""
    reply = Reply(
        pieces=text_pieces,
        finish=finish,
        tool_calls=tool_calls,
        reasoning=reasoning,
        refusal=refusal,
        logprobs=logprobs,
        usage=usage,
        usage_at=usage_at,
        obfuscation=obfuscation,
        strange=strange,
        extra=extra or {},
    )
    return [event(chunk) for chunk in reply.streamed(model, include_usage=include_usage)]


def models_list(models: Sequence[str]) -> Json:
    facts = {"object": "model", "created": CREATED, "owned_by": "fake"}
    return {"object": "list", "data": [{"id": model, **facts} for model in models]}


def token_usage(
    prompt: int = PROMPT_TOKENS, completion: int = len(TEXT_PIECES), *, cached: int = 0, reasoning: int = 0
) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def failure(message: str, kind: str, code: str | int | None = None, param: str | None = None) -> Json:
    """OpenAI's error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(payload: object, *, space: bool = True, multi_line: bool = False) -> bytes:
    """One server-sent event whose data is `payload` as JSON."""
    prefix = b"data: " if space else b"data:"
    text = json.dumps(payload, ensure_ascii=False, indent=1).encode() if multi_line else encode(payload)
    return b"".join(prefix + line + b"\n" for line in text.split(b"\n")) + b"\n"


def encode(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _envelope(kind: str, model: str, choices: list[Json]) -> Json:
    return {
        "id": "chatcmpl-fake0001",
        "object": kind,
        "created": CREATED,
        "model": model,
        "choices": choices,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _estranged(value: object) -> object:
    if isinstance(value, Mapping):
        known = {name: _estranged(part) for name, part in value.items()}
        return known | {"x_unheard_of": {"deep": "so"}}
    if isinstance(value, list):
        return [_estranged(part) for part in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Break:
    """The point where an answer goes wrong, and how.

    An answer sent whole has no frames to count: it breaks in the middle of its body.
    """

    how: Literal["stall", "end", "close", "half_close", "reset"]
    """Be silent until released; end the body as if that were all; FIN; FIN but keep reading; RST."""
    after_frames: int | None = 0
    """None: before the status line.  More than there are: after the last one."""
    bytes_of_next: int = 0
    """How much of the following frame is still sent."""
    last_words: Frame | None = None
    """Said instead of the rest; it is the whole body where the answer is not streamed."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """How one request is answered.  Nothing set: the correct answer to it."""

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    """Added to the usual ones; one of the same name replaces the usual one."""

    reply: Reply = field(default_factory=Reply)
    """Told as the request asks: whole or streamed, within its token limit, with or without usage."""
    json_body: object = UNASKED
    body: bytes | None = None
    frames: Sequence[Frame] | None = None
    """Streamed whatever the request asked for."""
    raw: bytes | None = None
    """Everything, from the status line on; then the connection is closed."""

    instead: Mapping[int, Frame] = field(default_factory=dict)
    """Streamed frames to exchange, by position."""
    done: bool = True
    """End a stream with `[DONE]`."""
    line_end: bytes = b"\n"
    space: bool = True
    """`data: x` rather than `data:x`."""
    multi_line: bool = False
    """Spread the JSON of each event over several `data:` lines."""
    bom: bool = False
    comment: str | None = None
    """An SSE comment before every frame."""

    framing: Literal["natural", "length", "chunked", "close"] = "natural"
    """How the body ends.  Natural: streams are chunked, whole bodies announce their length."""
    gzip: bool = False
    slice_bytes: int | None = None
    """Write at most so many bytes of the body at a time."""
    slice_delay_s: float = 0.0
    delay_s: float = 0.0
    """Before the status line."""
    frame_delay_s: float | Sequence[float] = 0.0
    """Before each frame, or before the first, the second ..."""
    breaks: Break | None = None

    @property
    def says_nothing_of_its_own(self) -> bool:
        return self.json_body is UNASKED and self.body is None and self.frames is None


def refused(status: int, message: str, kind: str, code: str | None = None, **headers: str) -> Script:
    """An error status with OpenAI's error body; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Script(status=status, headers=named, json_body=failure(message, kind, code))


def bad_request(message: str = "Invalid value", code: str = "invalid_value") -> Script:
    return refused(400, message, "invalid_request_error", code)


def unauthorized() -> Script:
    return refused(401, "Incorrect API key provided: sk-fake", "invalid_request_error", "invalid_api_key")


def payment_required() -> Script:
    return refused(402, "Insufficient Balance", "unknown_error", "invalid_request_error")


def not_found(path: str) -> Script:
    return refused(404, f"Invalid URL ({path})", "invalid_request_error")


def rate_limited(retry_after_s: float | None = 7) -> Script:
    code = "rate_limit_exceeded"
    if retry_after_s is None:
        return refused(429, "Rate limit reached", "requests", code)
    return refused(429, "Rate limit reached", "requests", code, retry_after=f"{retry_after_s:g}")


def insufficient_quota() -> Script:
    """The 429 that no waiting cures."""
    return refused(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota")


def server_error(status: int = 500) -> Script:
    return refused(status, "The server had an error", "server_error")


def overloaded() -> Script:
    return refused(529, "Overloaded", "overloaded_error")


def redirect(location: str, status: int = 302) -> Script:
    return Script(status=status, headers={"Location": location}, body=b"")


def html(status: int = 200) -> Script:
    page = b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>"
    return Script(status=status, headers={"Content-Type": "text/html"}, body=page)


def empty() -> Script:
    return Script(body=b"")


def silent() -> Script:
    """Takes the request and never answers, until the test releases it."""
    return Script(breaks=Break(how="stall", after_frames=None))


def hangs_up() -> Script:
    """Takes the request and closes without a word, as a vendor does with a stale connection."""
    return Script(breaks=Break(how="close", after_frames=None))


def stalls(after_frames: int, bytes_of_next: int = 0) -> Script:
    return Script(breaks=Break(how="stall", after_frames=after_frames, bytes_of_next=bytes_of_next))


def closes(after_frames: int, bytes_of_next: int = 0) -> Script:
    return Script(breaks=Break(how="close", after_frames=after_frames, bytes_of_next=bytes_of_next))


def half_closes(after_frames: int, bytes_of_next: int = 0) -> Script:
    return Script(breaks=Break(how="half_close", after_frames=after_frames, bytes_of_next=bytes_of_next))


def resets(after_frames: int, bytes_of_next: int = 0) -> Script:
    return Script(breaks=Break(how="reset", after_frames=after_frames, bytes_of_next=bytes_of_next))


def malformed_chunk(at: int = 2) -> Script:
    return Script(instead={at: b'data: {"id":"chatcmpl-fake0001","choices":[{"index":0,\n\n'})


def slow_body(bytes_per_s: float = 1.0) -> Script:
    """A byte at a time."""
    return Script(slice_bytes=1, slice_delay_s=1 / bytes_per_s)


def lying_usage(usage_at: UsageAt = "as_asked") -> Script:
    return Script(reply=Reply(usage=token_usage(LIE, LIE), usage_at=usage_at))


def many_headers(count: int = 20_000) -> Script:
    return Script(headers=[(f"X-Filler-{number}", "x") for number in range(count)])


def oversize_event(size_bytes: int) -> Script:
    """A stream whose second event alone carries so many bytes of text."""
    return Script(reply=Reply(pieces=("x" * size_bytes, ".")))


def gzip_bomb(size_bytes: int) -> Script:
    """A body about a thousand times as large as what is sent."""
    block = b" " * 2**20
    whole_blocks, rest = divmod(size_bytes, len(block))
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join([*(packer.compress(block) for _ in range(whole_blocks)), packer.compress(block[:rest])])
    return Script(headers={"Content-Encoding": "gzip"}, body=packed + packer.flush())


ErrorForm = Literal[
    "dict",
    "string",
    "json_string",
    "error_in_error",
    "with_detail",
    "with_status_code",
    "on_a_chunk",
    "x_groq",
]


def failure_in(form: ErrorForm, message: str = "upstream exploded") -> Json:
    """A mid-stream failure as one vendor or another words it."""
    match form:
        case "dict":
            return failure(message, "server_error", "internal_error")
        case "string":
            return {"error": message}
        case "json_string":
            return {"error": encode({"message": message, "type": "server_error"}).decode()}
        case "error_in_error":
            return {"error": {"error": message}}
        case "with_detail":
            return {"error": "infra_overload", "detail": {"message": message}}
        case "with_status_code":
            return failure(message, "server_error", "internal_error") | {"status_code": 500}
        case "on_a_chunk":
            choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}
            error = {"code": 502, "message": message, "metadata": {"error_type": "provider_unavailable"}}
            return _envelope("chat.completion.chunk", MODEL, [choice]) | {"error": error}
        case "x_groq":
            chunk = _envelope("chat.completion.chunk", MODEL, [])
            return chunk | {"x_groq": {"id": "req_fake", "error": message}}


def error_in_stream(form: ErrorForm = "dict", after_frames: int = 3) -> Script:
    """Status 200, then an error object and the end; as the only body where the answer is not streamed."""
    return Script(breaks=Break(how="end", after_frames=after_frames, last_words=failure_in(form)))


@dataclass(frozen=True)
class _Performance:
    """A script turned into bytes for one request."""

    head: bytes
    before_break: list[bytes]
    after_break: list[bytes]
    chunked: bool
    keep_alive: bool


def _perform(script: Script, request: Request) -> _Performance:
    frames, content_type, streamed = _content(script, request)
    before, after = _broken(frames, script, streamed)
    ends_early = script.breaks is not None and script.breaks.how == "end"
    if script.gzip:
        packer = zlib.compressobj(wbits=31)
        before, after = _packed(packer, before), _packed(packer, after)
        (before if ends_early else after).append(packer.flush())
    framing = script.framing
    if framing == "natural":
        framing = "chunked" if streamed else "length"
    usual = {"Content-Type": content_type, "X-Request-Id": f"req_{request.number:04}"}
    if script.gzip:
        usual["Content-Encoding"] = "gzip"
    match framing:
        case "chunked":
            usual["Transfer-Encoding"] = "chunked"
        case "length":
            usual["Content-Length"] = str(sum(map(len, before if ends_early else before + after)))
        case "close":
            usual["Connection"] = "close"
    head = _head(script.status, usual, script.headers)
    keep_alive = framing != "close" and request.headers.get("connection", "").lower() != "close"
    return _Performance(head, before, after, framing == "chunked", keep_alive)


def _content(script: Script, request: Request) -> tuple[list[bytes], str, bool]:
    """The body in frames, its type, and whether it is a stream."""
    if script.body is not None:
        return [script.body], "application/json", False
    if script.json_body is not UNASKED:
        return [encode(script.json_body)], "application/json", False
    if script.frames is None and script.status != 200:
        return [encode(failure(_phrase(script.status), "server_error"))], "application/json", False
    asked = request.json if isinstance(request.json, dict) else {}
    if script.frames is None and asked.get("stream") is not True:
        if script.breaks and script.breaks.last_words is not None:
            words = script.breaks.last_words
            return [words if isinstance(words, bytes) else encode(words)], "application/json", False
        reply = script.reply.cut_to(_tokens_max(asked))
        return [encode(reply.whole(str(asked.get("model", MODEL))))], "application/json", False
    return _stream(script, asked), "text/event-stream; charset=utf-8", True


def _stream(script: Script, asked: Json) -> list[bytes]:
    frames: list[Frame] = list(script.frames or ())
    if script.frames is None:
        options = asked.get("stream_options") or {}
        reply = script.reply.cut_to(_tokens_max(asked))
        if options.get("include_obfuscation") is False:
            reply = replace(reply, obfuscation=False)
        include_usage = options.get("include_usage") is True
        frames.extend(reply.streamed(str(asked.get("model", MODEL)), include_usage=include_usage))
    for position, frame in script.instead.items():
        frames[position] = frame
    if script.done:
        frames.append(DONE if script.space else DONE.replace(b": ", b":"))
    events = [_event(frame, script) for frame in frames]
    if script.bom:
        events[0] = b"\xef\xbb\xbf" + events[0]
    return events


def _tokens_max(asked: Json) -> int | None:
    limit = asked.get("max_completion_tokens", asked.get("max_tokens"))
    return limit if isinstance(limit, int) else None


def _event(frame: Frame, script: Script) -> bytes:
    text = frame if isinstance(frame, bytes) else event(frame, space=script.space, multi_line=script.multi_line)
    if script.comment is not None:
        text = f": {script.comment}\n\n".encode() + text
    return text.replace(b"\n", script.line_end)


def _broken(frames: list[bytes], script: Script, streamed: bool) -> tuple[list[bytes], list[bytes]]:
    """What comes before the break, and what would have come after it."""
    breaks = script.breaks
    if breaks is None:
        return frames, []
    if breaks.after_frames is None:
        return [], frames
    if not streamed:
        if breaks.last_words is not None:
            return frames, []
        half = breaks.bytes_of_next or len(frames[0]) // 2
        return [frames[0][:half]], [frames[0][half:]]
    before, after = frames[: breaks.after_frames], frames[breaks.after_frames :]
    if after and breaks.bytes_of_next:
        before, after[0] = [*before, after[0][: breaks.bytes_of_next]], after[0][breaks.bytes_of_next :]
    if breaks.last_words is not None:
        before.append(_event(breaks.last_words, script))
    return before, after


def _packed(packer: Any, frames: list[bytes]) -> list[bytes]:
    return [packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) for frame in frames]


def _head(status: int, usual: Mapping[str, str], scripted: Mapping[str, str] | Sequence[tuple[str, str]]) -> bytes:
    own = list(scripted.items()) if isinstance(scripted, Mapping) else list(scripted)
    replaced = {name.lower() for name, _ in own}
    kept = [(name, value) for name, value in usual.items() if name.lower() not in replaced]
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in [*kept, *own])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"


@dataclass(eq=False)
class Request:
    """One request as it came over the wire, and what became of it.  Moments are `time.monotonic()`."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; a repeated one has its values joined by commas."""
    body: bytes
    arrived_at: float
    answered_at: float | None = None
    """When the last byte of a complete answer had gone to the kernel."""
    closed_at: float | None = None
    """When the client left before that."""
    frames_sent: int = 0
    bytes_sent: int = 0
    """Of the body; both stop growing while the client does not read."""
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def model(self) -> str | None:
        asked = self.json
        return asked.get("model") if isinstance(asked, dict) else None

    def release(self) -> None:
        """Let a stalled answer go on."""
        self.released.set()


Scripted = Script | Callable[[Request], Script]
"""A script, or what writes one on seeing the request."""


class Upstream:
    """The fake vendor.  Scripts concern POST; a GET of the models list never uses one up.

    `by_path` is asked first, then `by_model`, then the queue; without a script the answer is correct.
    """

    def __init__(self, *, models: Sequence[str] = (MODEL,), send_buffer_bytes: int | None = None) -> None:
        """A small send buffer makes a client that stops reading felt sooner."""
        self.models = list(models)
        self.requests: list[Request] = []
        self.by_model: dict[str, Scripted] = {}
        self.by_path: dict[str, Scripted] = {}
        self.port = 0
        self._send_buffer_bytes = send_buffer_bytes
        self._queue: deque[Scripted] = deque()
        self._connections: set[_Connection] = set()
        self._performing: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        listener = _listen("127.0.0.1", 0)
        if self._send_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        self.port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.abort()
        for performance in self._performing:
            performance.cancel()
        await asyncio.gather(*self._performing, return_exceptions=True)
        await self.wait_open_connections(0)
        if self._bugs:
            raise AssertionError("the fake vendor itself failed") from self._bugs[0]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def unplayed(self) -> int:
        """Queued scripts that no request has used."""
        return len(self._queue)

    def script(self, *scripts: Scripted) -> None:
        """Queue behaviours for the coming requests, in order."""
        self._queue.extend(scripts)

    def hang_up(self) -> None:
        """Close every connection now, idle ones too, as a restarting vendor does."""
        for connection in list(self._connections):
            connection.leave(reset=False)

    async def wait_for_requests(self, count: int, *, timeout_s: float = 5.0) -> list[Request]:
        await self._until(lambda: len(self.requests) >= count, f"{count} requests", timeout_s)
        return self.requests

    async def wait_answered(self, number: int, *, timeout_s: float = 5.0) -> Request:
        def answered() -> bool:
            return len(self.requests) > number and self.requests[number].answered_at is not None

        await self._until(answered, f"the whole answer to request {number}", timeout_s)
        return self.requests[number]

    async def wait_closed(self, number: int, *, timeout_s: float = 5.0) -> Request:
        """Wait until the client has left request `number` (from 0) without its whole answer."""

        def closed() -> bool:
            if len(self.requests) <= number:
                return False
            assert self.requests[number].answered_at is None, f"request {number} was answered completely"
            return self.requests[number].closed_at is not None

        await self._until(closed, f"the client to leave request {number}", timeout_s)
        return self.requests[number]

    async def wait_open_connections(self, count: int, *, timeout_s: float = 5.0) -> None:
        await self._until(lambda: self.open_connections == count, f"{count} open connections", timeout_s)

    async def _until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what}") from None

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)
        self._changed.set()

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._changed.set()

    def changed(self) -> None:
        self._changed.set()

    def received(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Request:
        request = Request(len(self.requests), method, path, headers, body, arrived_at=time.monotonic())
        self.requests.append(request)
        self._changed.set()
        return request

    def start(self, performance: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(performance)
        self._performing.add(task)
        task.add_done_callback(self._performed)
        return task

    def _performed(self, task: asyncio.Task[None]) -> None:
        self._performing.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)

    def script_for(self, request: Request) -> Script:
        path = request.path.partition("?")[0]
        found = self.by_path.get(path)
        if found is None and request.method == "POST":
            found = self.by_model.get(request.model or "")
            if found is None and self._queue:
                found = self._queue.popleft()
        if found is None:
            return self._correct(request, path)
        script = found(request) if callable(found) else found
        if script.says_nothing_of_its_own and script.status == 200 and script.raw is None:
            # Only a request that deserves the correct answer gets a distorted one.
            correct = self._correct(request, path)
            return replace(script, status=correct.status, json_body=correct.json_body)
        return script

    def _correct(self, request: Request, path: str) -> Script:
        if request.method == "GET" and path.endswith("/models"):
            return Script(json_body=models_list(self.models))
        if request.method != "POST" or not path.endswith("/chat/completions"):
            return not_found(path)
        asked = request.json
        if not isinstance(asked, dict):
            return bad_request("We could not parse the JSON body of your request", "invalid_json")
        for required in ("model", "messages"):
            if not asked.get(required):
                return bad_request(f"Missing required parameter: '{required}'", "missing_required_parameter")
        return Script()


class _Connection(asyncio.Protocol):
    """One client: requests come one after another and are answered in their order."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = bytearray()
        self._request: Request | None = None
        self._performing: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._we_left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Nothing is buffered here: what counts as sent is with the kernel.
        self._transport.set_write_buffer_limits(high=0)
        self._upstream.joined(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._take_next()

    def eof_received(self) -> bool:
        # HTTP clients do not half-close, so this is one that has gone.
        self._client_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left()
        if self._performing is not None:
            self._performing.cancel()
        self._upstream.left(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def leave(self, *, reset: bool) -> None:
        """Close from our side, which does not count as the client's leaving."""
        if reset:
            ours = self._transport.get_extra_info("socket")
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.abort()
        else:
            self._we_left = True
            self._transport.close()

    def abort(self) -> None:
        self._we_left = True
        self._transport.abort()

    def _client_left(self) -> None:
        request = self._request
        if request is not None and request.closed_at is None and not self._we_left:
            request.closed_at = time.monotonic()
            self._upstream.changed()

    def _take_next(self) -> None:
        if self._request is not None or self._transport.is_closing():
            return
        taken = _take_request(self._received)
        if taken is not None:
            self._request = self._upstream.received(*taken)
            self._performing = self._upstream.start(self._answer(self._request))

    async def _answer(self, request: Request) -> None:
        try:
            keep_alive = await self._play(self._upstream.script_for(request), request)
        except ConnectionError:
            return  # One side has left; `connection_lost` notes it.
        except Exception:
            # The test shall fail now, and not when its client loses patience.
            self.abort()
            raise
        self._request = self._performing = None
        if keep_alive:
            self._take_next()
        else:
            self.leave(reset=False)

    async def _play(self, script: Script, request: Request) -> bool:
        """Answer, and say whether the connection may be used again."""
        if script.raw is not None:
            await self._write(script.raw)
            self._answered(request)
            return False
        performance = _perform(script, request)
        breaks = script.breaks
        if breaks is not None and breaks.after_frames is None:
            await self._break(breaks, request)
            breaks = None
        await asyncio.sleep(script.delay_s)
        await self._write(performance.head)
        for frame in performance.before_break:
            await self._send(frame, script, request, performance.chunked)
        if breaks is None or not await self._break(breaks, request):
            for frame in performance.after_break:
                await self._send(frame, script, request, performance.chunked)
        if performance.chunked:
            await self._write(b"0\r\n\r\n")
        self._answered(request)
        return performance.keep_alive

    async def _break(self, breaks: Break, request: Request) -> bool:
        """Do what the break demands; return whether the answer ends here."""
        match breaks.how:
            case "end":
                return True
            case "stall":
                await request.released.wait()
                return False
            case "half_close":
                self._transport.write_eof()
                await asyncio.Event().wait()  # Until the client closes too.
            case "close" | "reset" as how:
                self.leave(reset=how == "reset")
        raise ConnectionAbortedError

    async def _send(self, frame: bytes, script: Script, request: Request, chunked: bool) -> None:
        await asyncio.sleep(_delay_before(request.frames_sent, script.frame_delay_s))
        step = script.slice_bytes or len(frame) or 1
        for start in range(0, len(frame), step):
            # Even zero gives a reader in this process its turn, so that pieces arrive apart.  Nothing may be
            # awaited after the last piece: a client that then leaves has had its whole answer.
            await asyncio.sleep(script.slice_delay_s)
            piece = frame[start : start + step]
            await self._write(_http_chunk(piece) if chunked else piece)
            request.bytes_sent += len(piece)
        request.frames_sent += 1

    async def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(data)
        await self._writable.wait()

    def _answered(self, request: Request) -> None:
        request.answered_at = time.monotonic()
        self._upstream.changed()


def _take_request(received: bytearray) -> tuple[str, str, dict[str, str], bytes] | None:
    """Cut one whole request off the front, or leave everything until more has come."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    start_line, *lines = received[:head_end].decode("latin-1").split("\r\n")
    method, path, _ = start_line.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        earlier = headers.get(name.lower())
        headers[name.lower()] = value.strip() if earlier is None else f"{earlier}, {value.strip()}"
    body_start = head_end + 4
    if headers.get("transfer-encoding", "").lower() == "chunked":
        unchunked = _unchunked(received, body_start)
        if unchunked is None:
            return None
        body, end = unchunked
    else:
        end = body_start + int(headers.get("content-length", "0"))
        if len(received) < end:
            return None
        body = bytes(received[body_start:end])
    del received[:end]
    return method, path, headers, body


def _unchunked(received: bytearray, start: int) -> tuple[bytes, int] | None:
    """The body whose first chunk begins at `start`, and where it ends.  Trailers are not expected."""
    body = bytearray()
    while (line_end := received.find(b"\r\n", start)) >= 0:
        size = int(received[start:line_end].split(b";")[0], 16)
        chunk_end = line_end + 2 + size
        if len(received) < chunk_end + 2:
            return None
        body += received[line_end + 2 : chunk_end]
        start = chunk_end + 2
        if size == 0:
            return bytes(body), start
    return None


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=4096)
    # What is accepted inherits it.  Asyncio does this only for sockets it has made itself, and without it a
    # small write waits up to 40 ms for the one before to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _delay_before(position: int, delays: float | Sequence[float]) -> float:
    if isinstance(delays, Sequence):
        return delays[position] if position < len(delays) else 0.0
    return delays


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True)
class _Phrasebook:
    """Every answer of the fast vendor, complete with its HTTP framing."""

    whole: bytes
    streams: Mapping[bool, Sequence[bytes]]
    """By whether usage was asked for."""
    models: bytes
    length_required: bytes
    chunk_delay_s: float


class FastUpstream:
    """A vendor with one answer, ready in bytes, so that a benchmark measures the gateway and not its peer."""

    def __init__(
        self,
        *,
        chunks: int = 200,
        chunk_delay_s: float = 0.0,
        body_bytes: int = 600,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._phrasebook = _phrasebook(chunks, chunk_delay_s, body_bytes)
        self._host = host
        self.port = port
        self._peers: set[_FastPeer] = set()

    async def __aenter__(self) -> Self:
        listener = _listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _FastPeer(self._phrasebook, self._peers), sock=listener
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for peer in list(self._peers):
            peer.abort()

    @property
    def base_url(self) -> str:
        return f"http://{self._host}:{self.port}/v1"


def _phrasebook(chunk_count: int, chunk_delay_s: float, body_bytes: int) -> _Phrasebook:
    plain = token_usage(completion=chunk_count)
    shortest = len(completion("", usage=plain))
    if body_bytes < shortest:
        raise ValueError(f"an answer takes at least {shortest} bytes, {body_bytes} is too few")
    body = completion("x" * (body_bytes - shortest), usage=plain)
    pieces = [" word"] * chunk_count
    head = _head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}, ())
    streams = {}
    for include_usage in (False, True):
        told = chunks(pieces, include_usage=include_usage, obfuscation=False)
        streams[include_usage] = [head, *map(_http_chunk, told), _http_chunk(DONE) + b"0\r\n\r\n"]
    return _Phrasebook(
        whole=_with_length(200, body),
        streams=streams,
        models=_with_length(200, encode(models_list([MODEL]))),
        length_required=_with_length(411, encode(failure("No Content-Length", "invalid_request_error"))),
        chunk_delay_s=chunk_delay_s,
    )


def _with_length(status: int, body: bytes) -> bytes:
    usual = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return _head(status, usual, ()) + body


class _FastPeer(asyncio.Protocol):
    """Looks at no more of a request than where it ends and which answer it wants."""

    _LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    _STREAM = re.compile(rb'"stream" ?: ?true')
    _USAGE = re.compile(rb'"include_usage" ?: ?true')

    def __init__(self, phrasebook: _Phrasebook, peers: set[_FastPeer]) -> None:
        self._phrasebook = phrasebook
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._stream: Sequence[bytes] | None = None
        self._position = 0
        self._began_at = 0.0
        self._paused = False
        self._held_back = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.discard(self)
        self._stream = None

    def abort(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._held_back:
            self._held_back = False
            self._loop.call_soon(self._tell_next)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        while self._stream is None and self._received:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = self._LENGTH.search(self._received, 0, head_end)
            if length is None:
                posted = self._received.startswith(b"POST")
                self._transport.write(self._phrasebook.length_required if posted else self._phrasebook.models)
                if posted:
                    # Where its body ends is unknown, so nothing after it can be read.
                    self._transport.close()
                    return
                self._received = self._received[head_end + 4 :]
                continue
            end = head_end + 4 + int(length[1])
            if len(self._received) < end:
                return
            request, self._received = self._received[:end], self._received[end:]
            self._answer(request, head_end)

    def _answer(self, request: bytes, body_start: int) -> None:
        if self._STREAM.search(request, body_start) is None:
            self._transport.write(self._phrasebook.whole)
            return
        self._stream = self._phrasebook.streams[self._USAGE.search(request, body_start) is not None]
        self._position = 0
        self._began_at = self._loop.time()
        self._tell_next()

    def _tell_next(self) -> None:
        """Write one piece and return to the loop, which sends it before the next one comes."""
        if self._stream is None:
            return
        if self._paused:
            self._held_back = True
            return
        self._transport.write(self._stream[self._position])
        self._position += 1
        if self._position == len(self._stream):
            self._stream = None
            self.data_received(b"")
        elif self._phrasebook.chunk_delay_s:
            # Reckoned from the start, so that late timers do not add up.
            due = self._began_at + self._position * self._phrasebook.chunk_delay_s
            self._loop.call_at(due, self._tell_next)
        else:
            self._loop.call_soon(self._tell_next)


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with FastUpstream(
        chunks=arguments.chunks,
        chunk_delay_s=arguments.chunk_delay,
        body_bytes=arguments.body_bytes,
        host=arguments.host,
        port=arguments.port,
    ) as upstream:
        sys.stdout.write(f"{upstream.port}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve one fixed answer, fast; prints its port.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--chunks", type=int, default=200, help="text chunks of a stream")
    parser.add_argument("--chunk-delay", type=float, default=0.0, help="seconds between them")
    parser.add_argument("--body-bytes", type=int, default=600, help="size of a whole answer's body")
    arguments = parser.parse_args()
    try:
        new_event_loop = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(arguments))


if __name__ == "__main__":
    main()
