"""What callers get, read with the official clients' own types: nothing may be missing, and nothing unknown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from anthropic.types import Message, RawMessageStreamEvent
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from domain.catalog import Dialect
from tests.contracts.dialect_answers import INPUT, OUTPUT, Said

KNOWN: Final = frozenset({"reasoning", "reasoning_content", "reasoning_details", "cache_write_tokens", "store"})
"""What vendors and their callers agreed on beside OpenAI's own types, and `store`, which OpenAI's own answers have."""
NAMED_CALLS: Final = ".name"
"""Of the event that ends a call's arguments: some releases of the client demand it, others do not know it."""

_MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def unknown(model: object, where: str = "") -> Iterator[str]:
    """Members that the official types do not have."""
    if isinstance(model, BaseModel):
        extra = [f"{where}.{name}" for name in model.model_extra or {} if name not in KNOWN]
        yield from (path for path in extra if path != NAMED_CALLS)
        for name in type(model).model_fields:
            yield from unknown(getattr(model, name), f"{where}.{name}")
    elif isinstance(model, list):
        for at, each in enumerate(model):
            yield from unknown(each, f"{where}[{at}]")


def _all_known(model: object) -> None:
    strange = sorted(set(unknown(model)))
    assert not strange, strange


def _chat(answer: ChatCompletion) -> Said:
    (choice,) = answer.choices
    message = choice.message
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (INPUT, OUTPUT)
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]  # type: ignore[union-attr]
    refused = choice.finish_reason == "content_filter" or bool(message.refusal)
    finishes = {"length": "length", "tool_calls": "tool"}
    return Said(
        text=message.refusal or message.content or "",
        thought=getattr(message, "reasoning_content", None) or "",
        calls=tuple(calls),
        refused=refused,
        finish=finishes.get(choice.finish_reason, "end"),
    )


def chat_whole(body: bytes) -> Said:
    answer = ChatCompletion.model_validate_json(body, strict=True)
    _all_known(answer)
    return _chat(answer)


def chat_stream(body: bytes) -> Said:
    frames = [frame.removeprefix(b"data: ") for frame in body.split(b"\n\n") if frame]
    assert frames.pop() == b"[DONE]"
    state = ChatCompletionStreamState()
    thought = ""
    for frame in frames:
        chunk = ChatCompletionChunk.model_validate_json(frame, strict=True)
        _all_known(chunk)
        for choice in chunk.choices:
            thought += getattr(choice.delta, "reasoning_content", None) or ""
        state.handle_chunk(chunk)
    # The client's own end refuses an answer that is cut off; what it has gathered by then is what it shows.
    said = _chat(ChatCompletion.model_validate(state.current_completion_snapshot.model_dump()))
    return Said(said.text, thought, said.calls, said.refused, said.finish)


def _message(answer: Message) -> Said:
    usage = answer.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == INPUT
    assert usage.output_tokens == OUTPUT
    text, thought, calls = "", "", []
    for block in answer.content:
        match block.type:
            case "text":
                text += block.text
            case "thinking":
                thought += block.thinking
            case "tool_use":
                calls.append((block.name, block.input))
            case "redacted_thinking":
                # Another family's seal, carried to the caller and back.
                assert "gwz1." in block.data
            case other:
                raise AssertionError(other)
    reasons = {"end_turn": "end", "max_tokens": "length", "stop_sequence": "stop", "tool_use": "tool"}
    refused = answer.stop_reason == "refusal"
    assert refused or answer.stop_reason in reasons
    return Said(text, thought, tuple(calls), refused, "end" if refused else reasons[str(answer.stop_reason)])


def anthropic_whole(body: bytes) -> Said:
    answer = Message.model_validate_json(body, strict=True)
    _all_known(answer)
    return _message(answer)


def _named(body: bytes) -> Iterator[tuple[str, bytes]]:
    for frame in body.split(b"\n\n"):
        if frame:
            name, data = frame.split(b"\n", 1)
            yield name.removeprefix(b"event: ").decode(), data.removeprefix(b"data: ")


def anthropic_stream(body: bytes) -> Said:
    """The events put together again, as the client's own helper does it."""
    message: Any = None
    ended = False
    for name, data in _named(body):
        if name == "ping":
            continue
        event = _MESSAGE_EVENT.validate_json(data)
        _all_known(event)
        assert event.type == name
        assert not ended
        match event.type:
            case "message_start":
                message = event.message.to_dict()
            case "content_block_start":
                assert event.index == len(message["content"])
                message["content"].append(event.content_block.to_dict() | {"json": ""})
            case "content_block_delta":
                _grow(message["content"][event.index], event.delta)
            case "content_block_stop":
                block = message["content"][event.index]
                if written := block.pop("json"):
                    block["input"] = json.loads(written)
            case "message_delta":
                message |= {"stop_reason": event.delta.stop_reason, "stop_sequence": event.delta.stop_sequence}
                counts = event.usage.to_dict(exclude_none=True)
                message["usage"] |= counts
            case "message_stop":
                ended = True
    assert ended
    return _message(Message.model_validate_json(json.dumps(message), strict=True))


def _grow(block: dict[str, Any], delta: Any) -> None:
    match delta.type:
        case "text_delta":
            block["text"] += delta.text
        case "thinking_delta":
            block["thinking"] += delta.thinking
        case "signature_delta":
            block["signature"] = delta.signature
        case "input_json_delta":
            block["json"] += delta.partial_json
        case other:
            raise AssertionError(other)


def _response(answer: Response) -> Said:
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (INPUT, OUTPUT)
    text, thoughts, calls, refused = "", [], [], False
    for item in answer.output:
        match item.type:
            case "message":
                for part in item.content:
                    text += part.text if part.type == "output_text" else part.refusal
                    refused = refused or part.type == "refusal"
            case "reasoning":
                thoughts += [part.text for part in item.summary] + [part.text for part in item.content or ()]
            case "function_call":
                calls.append((item.name, json.loads(item.arguments)))
            case other:
                raise AssertionError(other)
    why = answer.incomplete_details.reason if answer.incomplete_details else None
    assert (answer.status == "incomplete") == (why is not None)
    finish = "length" if why == "max_output_tokens" else "tool" if calls else "end"
    return Said(text, "".join(thoughts), tuple(calls), refused or why == "content_filter", finish)


def responses_whole(body: bytes) -> Said:
    answer = Response.model_validate_json(body)
    _all_known(answer)
    return _response(answer)


def responses_stream(body: bytes) -> Said:
    grown: dict[str, str] = {}
    last: Any = None
    for number, (name, data) in enumerate(_named(body)):
        event = _RESPONSE_EVENT.validate_json(data)
        _all_known(event)
        assert (event.type, event.sequence_number) == (name, number)
        if name.endswith(".delta"):
            kind = name.removesuffix(".delta")
            grown[kind] = grown.get(kind, "") + event.delta
        last = event
    assert last.type in ("response.completed", "response.incomplete")
    said = _response(last.response)
    assert grown.get("response.output_text", "") + grown.get("response.refusal", "") == said.text
    summed = grown.get("response.reasoning_summary_text", "") + grown.get("response.reasoning_text", "")
    assert summed == said.thought
    assert bool(grown.get("response.function_call_arguments")) == bool(said.calls)
    return said


READINGS: Final[Mapping[Dialect, Sequence[Callable[[bytes], Said]]]] = {
    Dialect.OPENAI_CHAT: (chat_whole, chat_stream),
    Dialect.ANTHROPIC: (anthropic_whole, anthropic_stream),
    Dialect.OPENAI_RESPONSES: (responses_whole, responses_stream),
}
"""By the caller's dialect: an answer whole, and a stream."""
