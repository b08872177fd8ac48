"""What a vendor of each wire answers for each feature, in that wire's true bytes, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.contracts.dialect_requests import CALLED, STOP, TOOL
from tests.fakes import anthropic_upstream as claude

Json = dict[str, Any]

INPUT, OUTPUT, REASONING = 20, 9, 4
"""Tokens that every answer costs; the reasoning is part of the output, and is there only where there is thinking."""
SAID: Final = "Paris, ça va; 東京 too."
THOUGHT: Final = "Let me think about it."
REFUSED: Final = "I can't help with that."
DOCUMENT: Final = '{"city":"Paris"}'
ID, MODEL, CREATED = "answer-0001", "vendor-model", 1_760_000_000
SEAL: Final = "c2lnbmF0dXJlc2lnbmF0dXJl"


@dataclass(frozen=True)
class Said:
    """What an answer says, whatever its dialect."""

    text: str = ""
    thought: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    refused: bool = False
    finish: str = "end"
    """end, length, stop (a stop sequence), tool."""


def expected(feature: str) -> Said:
    match feature:
        case "parallel tools":
            return Said(calls=tuple((TOOL, json.loads(arguments)) for _, arguments in CALLED), finish="tool")
        case "forced tool":
            return Said(calls=((TOOL, json.loads(CALLED[0][1])),), finish="tool")
        case "JSON schema":
            return Said(text=DOCUMENT)
        case "thinking":
            return Said(text=SAID, thought=THOUGHT)
        case "max tokens":
            return Said(text=SAID, finish="length")
        case "stop sequences":
            return Said(text=SAID, finish="stop")
        case "refusal":
            return Said(text=REFUSED, refused=True)
    return Said(text=SAID)


def _pieces(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def _frames(payloads: Iterable[Json]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in payloads)


# OpenAI Chat Completions


def _chat_finish(said: Said) -> str:
    return {"tool": "tool_calls", "length": "length"}.get(said.finish, "stop")


def _chat_usage(said: Said) -> Json:
    details = {"reasoning_tokens": REASONING if said.thought else 0, "audio_tokens": 0}
    return {
        "prompt_tokens": INPUT,
        "completion_tokens": OUTPUT,
        "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": details,
    }


def _chat_calls(said: Said) -> list[Json]:
    return [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for (id_, _), (name, arguments) in zip(CALLED, said.calls, strict=False)
    ]


def chat_whole(said: Said) -> bytes:
    message: Json = {"role": "assistant", "content": said.text or None, "refusal": None, "annotations": []}
    if said.refused:
        message |= {"content": None, "refusal": said.text}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message["tool_calls"] = _chat_calls(said)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _chat_finish(said)}
    head = {"id": ID, "object": "chat.completion", "created": CREATED, "model": MODEL}
    return json.dumps(head | {"choices": [choice], "usage": _chat_usage(said)}).encode()


def chat_stream(said: Said) -> bytes:
    head = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], "usage": None}

    told = [chunk({"role": "assistant", "content": "", "refusal": None})]
    told += [chunk({"reasoning_content": piece}) for piece in _pieces(said.thought)]
    member = "refusal" if said.refused else "content"
    told += [chunk({member: piece}) for piece in _pieces(said.text)]
    for index, call in enumerate(_chat_calls(said)):
        begun = {**call, "function": {**call["function"], "arguments": ""}}
        told.append(chunk({"tool_calls": [{"index": index, **begun}]}))
        for piece in _pieces(call["function"]["arguments"]):
            told.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    told += [chunk({}, _chat_finish(said)), {**head, "choices": [], "usage": _chat_usage(said)}]
    return _frames(told) + b"data: [DONE]\n\n"


# Anthropic Messages


def _message(said: Said) -> Json:
    blocks: list[Json] = []
    if said.thought:
        blocks.append({"type": "thinking", "thinking": said.thought, "signature": SEAL})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    blocks += [
        {"type": "tool_use", "id": id_, "name": name, "input": arguments}
        for (id_, _), (name, arguments) in zip(CALLED, said.calls, strict=False)
    ]
    reasons = {"end": "end_turn", "length": "max_tokens", "stop": "stop_sequence", "tool": "tool_use"}
    stops = said.finish == "stop"
    details = {"output_tokens_details": {"thinking_tokens": REASONING}} if said.thought else {}
    usage = claude.token_usage(OUTPUT, input_tokens=INPUT, **details)
    return claude.message(
        *blocks,
        model=MODEL,
        stop_reason="refusal" if said.refused else reasons[said.finish],
        stop_sequence=STOP if stops else None,
        usage=usage,
    )


def anthropic_whole(said: Said) -> bytes:
    return json.dumps(_message(said)).encode()


def anthropic_stream(said: Said) -> bytes:
    return b"".join(claude.stream(_message(said)))


# Gemini


def _gemini_parts(said: Said) -> list[Json]:
    parts: list[Json] = [{"text": piece, "thought": True} for piece in _pieces(said.thought)]
    if said.text and not said.refused:
        parts += [{"text": piece} for piece in _pieces(said.text)]
        if said.thought:
            parts[-1]["thoughtSignature"] = SEAL
    for at, ((id_, _), (name, arguments)) in enumerate(zip(CALLED, said.calls, strict=False)):
        part: Json = {"functionCall": {"id": id_, "name": name, "args": arguments}}
        parts.append(part | ({"thoughtSignature": SEAL} if at == 0 else {}))
    return parts


def _gemini_chunk(parts: list[Json], said: Said, *, last: bool) -> Json:
    thought = REASONING if said.thought else 0
    counts: Json = {"promptTokenCount": INPUT, "totalTokenCount": INPUT + OUTPUT}
    if last:
        counts |= {"candidatesTokenCount": OUTPUT - thought}
        if thought:
            counts["thoughtsTokenCount"] = thought
    candidate: Json = {"index": 0}
    if parts:
        candidate["content"] = {"parts": parts, "role": "model"}
    if last:
        candidate["finishReason"] = "SAFETY" if said.refused else {"length": "MAX_TOKENS"}.get(said.finish, "STOP")
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": MODEL, "responseId": ID}


def gemini_whole(said: Said) -> bytes:
    return json.dumps(_gemini_chunk(_gemini_parts(said), said, last=True)).encode()


def gemini_stream(said: Said) -> bytes:
    told = [_gemini_chunk([part], said, last=False) for part in _gemini_parts(said)]
    return _frames([*told, _gemini_chunk([] if said.refused else [{"text": ""}], said, last=True)])


# OpenAI Responses


def _items(said: Said) -> list[Json]:
    items: list[Json] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        items.append({"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": SEAL})
    if said.text:
        part: Json = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        if said.refused:
            part = {"type": "refusal", "refusal": said.text}
        items.append({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]})
    for at, ((id_, _), (name, arguments)) in enumerate(zip(CALLED, said.calls, strict=False)):
        call = {"id": f"fc_{at}", "type": "function_call", "status": "completed", "call_id": id_, "name": name}
        items.append(call | {"arguments": json.dumps(arguments)})
    return items


def _response(said: Said, items: list[Json] | None) -> Json:
    done = items is not None
    cut = said.finish == "length"
    thought = REASONING if said.thought else 0
    usage = {
        "input_tokens": INPUT,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": OUTPUT,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": INPUT + OUTPUT,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress" if not done else "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if done and cut else None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": MODEL,
        "output": items or [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def responses_whole(said: Said) -> bytes:
    return json.dumps(_response(said, _items(said))).encode()


def responses_stream(said: Said) -> bytes:
    items = _items(said)
    told: list[Json] = [{"type": name, "response": _response(said, None)} for name in _BEGUN]
    for index, item in enumerate(items):
        told += _item_events(index, item)
    end = "response.incomplete" if said.finish == "length" else "response.completed"
    told.append({"type": end, "response": _response(said, items)})
    return b"".join(
        f"event: {each['type']}\ndata: {json.dumps({**each, 'sequence_number': number})}\n\n".encode()
        for number, each in enumerate(told)
    )


_BEGUN = ("response.created", "response.in_progress")


def _item_events(index: int, item: Json) -> list[Json]:
    where = {"item_id": item["id"], "output_index": index}
    match item["type"]:
        case "reasoning":
            begun, part = item | {"summary": [], "encrypted_content": None}, item["summary"][0]
            at = {**where, "summary_index": 0}
            name, empty, text = "response.reasoning_summary", {"type": "summary_text", "text": ""}, part["text"]
            inner = [
                {"type": f"{name}_part.added", **at, "part": empty},
                *({"type": f"{name}_text.delta", **at, "delta": piece} for piece in _pieces(text)),
                {"type": f"{name}_text.done", **at, "text": text},
                {"type": f"{name}_part.done", **at, "part": part},
            ]
        case "message":
            begun, part, at = item | {"status": "in_progress", "content": []}, item["content"][0], {**where}
            at["content_index"] = 0
            member = "refusal" if part["type"] == "refusal" else "text"
            name = "response.refusal" if member == "refusal" else "response.output_text"
            more: Json = {} if member == "refusal" else {"logprobs": []}
            inner = [
                {"type": "response.content_part.added", **at, "part": part | {member: ""}},
                *({"type": f"{name}.delta", **at, "delta": piece, **more} for piece in _pieces(part[member])),
                {"type": f"{name}.done", **at, member: part[member], **more},
                {"type": "response.content_part.done", **at, "part": part},
            ]
        case _:
            begun, arguments = item | {"status": "in_progress", "arguments": ""}, item["arguments"]
            name = "response.function_call_arguments"
            inner = [
                *({"type": f"{name}.delta", **where, "delta": piece} for piece in _pieces(arguments)),
                {"type": f"{name}.done", **where, "arguments": arguments},
            ]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


ANSWERS: Final[Mapping[str, tuple[Callable[[Said], bytes], Callable[[Said], bytes]]]] = {
    "OpenAI": (chat_whole, chat_stream),
    "Anthropic": (anthropic_whole, anthropic_stream),
    "Gemini": (gemini_whole, gemini_stream),
    "Responses": (responses_whole, responses_stream),
}
"""By wire: an answer whole, and as a stream."""
