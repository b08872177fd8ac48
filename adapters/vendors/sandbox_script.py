"""What the sandbox answers to a request, and how it fails: pure, so that every answer can be told in advance.

Its tokenizer: a token is up to 16 letters, digits or underscores, or one other character, each with the
whitespace before it; whitespace at the very end is one more.  A stream sends one token per chunk, so that
tokens, words and chunks agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from adapters.vendors.sandbox_json import CannotSatisfy, minimal_json
from domain.inference.faults import FaultKind

CONTEXT_LENGTH: Final = 128_000
OUTPUT_MAX: Final = 16_384
MEDIA_TOKENS: Final = 100
"""What an image, a sound or a file in a message counts."""
SLOW_PAUSE_S: Final = 0.2
STALL_S: Final = 20.0
STALL_S_MAX: Final = 600.0
WORDS_BEFORE_FAILURE: Final = 3

_TOKEN = re.compile(r"\s*+(?:\w{1,16}|[^\w\s])|\s++")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(ms\b)?")
_PLACE = re.compile(r"`\$\.(\w+)")


class Ending(StrEnum):
    """How a stream ends."""

    DONE = "done"
    WITHOUT_DONE = "without_done"
    BROKEN_OFF = "broken_off"
    MALFORMED = "malformed"


class Failure(Struct, frozen=True, kw_only=True):
    """A vendor's refusal as it looks on the wire, or the fault of a connection that has no words for it."""

    message: str
    status: int | None = None
    code: str | int | None = None
    headers: Mapping[str, str] = {}
    fault: FaultKind | None = None

    @property
    def error(self) -> dict[str, Any]:
        kind = "server_error" if self.status is None or self.status >= 500 else "invalid_request_error"
        return {"message": self.message, "type": kind, "param": None, "code": self.code or self.status}


class Script(Struct, frozen=True, kw_only=True):
    """One answer, from its pauses to its end; with `answers` above 1 every choice is the same."""

    prompt_tokens: int
    words: tuple[str, ...] = ()
    """The content, or the arguments of the tool call."""
    reasoning: tuple[str, ...] = ()
    tool: str | None = None
    finish_reason: str = "stop"
    answers: int = 1
    first_pause_s: float = 0.0
    pause_s: float = 0.0
    ending: Ending = Ending.DONE
    reports_usage: bool = True
    failure: Failure | None = None
    failure_after: bool = False
    """It fails after its words, not instead of them."""

    @property
    def tokens(self) -> int:
        """The output tokens of one answer."""
        return len(self.reasoning) + len(self.words)


class UnreadableRequest(ValueError):
    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


_Count = Annotated[int, Meta(ge=1)]


class _Message(Struct):
    role: str
    content: Any = None


class _Function(Struct):
    name: str = ""
    parameters: Any = None


class _Tool(Struct):
    function: _Function | None = None


class _Schema(Struct):
    schema: Any = None


class _Format(Struct):
    type: str = "text"
    json_schema: _Schema | None = None


class _Request(Struct):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    response_format: _Format | None = None

    @property
    def output_max(self) -> int:
        limits = (self.max_completion_tokens, self.max_tokens, OUTPUT_MAX)
        return min(limit for limit in limits if limit is not None)

    @property
    def must_call(self) -> bool:
        """A tool is demanded, which every model obeys: libraries ask for JSON in this way."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, dict)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


_REQUEST = msgspec.json.Decoder(_Request)

MODEL_MISSING: Final = Failure(status=404, message="The sandbox has no such model.")
_CONTEXT = Failure(
    status=400,
    code="context_length_exceeded",
    message=f"This model's maximum context length is {CONTEXT_LENGTH} tokens.",
)
_REFUSED = Failure(status=400, message="The sandbox was asked to refuse.")
_FAILURES: Final[Mapping[str, Failure]] = {
    "400": _REFUSED,
    "refused": _REFUSED,
    "401": Failure(status=401, message="Incorrect API key provided."),
    "402": Failure(status=402, message="The balance of this account is empty."),
    "403": Failure(status=403, message="This key may not use this model."),
    "404": MODEL_MISSING,
    "413": Failure(status=413, message="The request is too large."),
    "429": Failure(status=429, message="Rate limit reached.", headers={"retry-after": "1"}),
    "quota": Failure(status=429, code="insufficient_quota", message="You exceeded your current quota."),
    "500": Failure(status=500, message="The server had an error."),
    "502": Failure(status=502, message="Bad gateway."),
    "503": Failure(status=503, message="The model is overloaded."),
    "529": Failure(status=529, message="The model is overloaded."),
    "context": _CONTEXT,
    "policy": Failure(status=400, code="content_policy_violation", message="The content breaks the rules."),
    "timeout": Failure(fault=FaultKind.FIRST_BYTE_TIMEOUT, message="it did not answer in time"),
    "unreachable": Failure(fault=FaultKind.UNREACHABLE, message="it refused the connection"),
}
_ENDINGS: Final[Mapping[str, Ending]] = {"malformed": Ending.MALFORMED, "broken-off": Ending.BROKEN_OFF}
_SILENCE = Failure(fault=FaultKind.IDLE_TIMEOUT, message="its answer stood still")


def tokens(text: str, most: int) -> tuple[str, ...]:
    """The first `most` tokens of `text`; joined they are its beginning."""
    return tuple(match[0] for match in islice(_TOKEN.finditer(text), most))


def script_for(model: str, body: bytes) -> Script:
    """What `model` does with this request.  Raises UnreadableRequest."""
    request = _read(body)
    prompt_tokens = _count(_text(message.content) for message in request.messages)
    prompt_tokens += MEDIA_TOKENS * sum(_media(message.content) for message in request.messages)
    if prompt_tokens > CONTEXT_LENGTH:
        return Script(prompt_tokens=prompt_tokens, failure=_CONTEXT)
    asked = next((_text(each.content) for each in reversed(request.messages) if each.role == "user"), "")
    script = _answer(model, request, asked, prompt_tokens)
    match model:
        case "slow":
            script = replace(script, pause_s=SLOW_PAUSE_S)
        case "stall":
            script = replace(script, first_pause_s=_seconds(asked))
        case "no-usage":
            script = replace(script, reports_usage=False)
        case "no-done":
            script = replace(script, ending=Ending.WITHOUT_DONE)
        case "cut":
            script = replace(script, ending=Ending.BROKEN_OFF)
        case "fail":
            script = _failing(replace(script, words=(), tool=None), asked)
        case "fail-after":
            script = replace(script, words=script.words[:WORDS_BEFORE_FAILURE], failure_after=True)
            script = _failing(script, asked)
    return script


def _read(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        param = place[1] if place else None
        raise UnreadableRequest(f"The request cannot be used: {error}.", param) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UnreadableRequest("The request is not JSON that can be read.") from None


def _answer(model: str, request: _Request, asked: str, prompt_tokens: int) -> Script:
    limit, answers = request.output_max, request.n or 1
    result = _text(request.messages[-1].content) if request.messages[-1].role == "tool" else None
    if (model == "tool" or request.must_call) and result is None and (tool := _tool(request)) is not None:
        arguments = _json(tool.parameters or {"type": "object"}, "tools")
        words = tokens(arguments, limit + 1)
        finish = "tool_calls" if len(words) <= limit else "length"
        called = Script(prompt_tokens=prompt_tokens, tool=tool.name, words=words[:limit], answers=answers)
        return replace(called, finish_reason=finish)
    text = asked if result is None or model != "tool" else result
    if request.response_format is not None and request.response_format.type != "text":
        schema = request.response_format.json_schema
        text = _json({"type": "object"} if schema is None else schema.schema, "response_format")
    reasoning: tuple[str, ...] = ()
    if model == "reason":
        reasoning = tokens(f"The user wrote {len(asked)} characters. I will repeat them.", limit)
    for stop in request.stops:
        text = text.partition(stop)[0] if stop else text
    left = limit - len(reasoning)
    words = tokens(text, left + 1)
    return Script(
        prompt_tokens=prompt_tokens,
        words=words[:left],
        reasoning=reasoning,
        finish_reason="stop" if len(words) <= left else "length",
        answers=answers,
    )


def _failing(script: Script, asked: str) -> Script:
    for word in re.findall(r"[\w-]+", asked[:1_000].lower()):
        if word in _ENDINGS:
            return replace(script, ending=_ENDINGS[word])
        if word == "timeout" and script.failure_after:
            return replace(script, failure=_SILENCE)
        if word in _FAILURES:
            return replace(script, failure=_FAILURES[word])
    return replace(script, failure=_FAILURES["500"])


def _tool(request: _Request) -> _Function | None:
    """The tool to call: the one that `tool_choice` names, else the first."""
    functions = [tool.function for tool in request.tools or () if tool.function is not None]
    choice = request.tool_choice
    if choice == "none":
        return None
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        functions = [function for function in functions if function.name == named.get("name")]
    return functions[0] if functions else None


def _json(schema: object, param: str) -> str:
    try:
        return msgspec.json.encode(minimal_json(schema)).decode()
    except CannotSatisfy as error:
        raise UnreadableRequest(f"The sandbox cannot satisfy the schema: {error}.", param) from None


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))


def _media(content: object) -> int:
    parts = content if isinstance(content, list) else []
    return sum(isinstance(part, dict) and "text" not in part for part in parts)


def _count(texts: Iterable[str]) -> int:
    """Tokens of all texts, counted no further than needed to know that they are too many."""
    count = 0
    for text in texts:
        count += sum(1 for _ in islice(_TOKEN.finditer(text), CONTEXT_LENGTH + 1 - count))
    return count


def _seconds(text: str) -> float:
    found = _SECONDS.search(text)
    if found is None:
        return STALL_S
    return min(STALL_S_MAX, float(found[1]) / (1000 if found[2] else 1))
