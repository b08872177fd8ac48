"""A vendor that speaks Anthropic's dialect over a real socket, on the server of `tests.fakes.upstream`.

`message` and `stream` are what it says; both are bytes, so that a test can compare what a caller got with what was
sent.  Without a script it answers whatever it is asked correctly, whole or streamed, counts tokens and lists models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.upstream import Break, Request, Script, Upstream

Json = dict[str, Any]

MODEL = "claude-fake-9"
PROMPT_TOKENS = 11
COUNTED_TOKENS = 321
TEXT: Json = {"type": "text", "text": "Hello from the fake upstream."}
THINKING: Json = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl"}
REDACTED: Json = {"type": "redacted_thinking", "data": "c2VhbGVk"}
SERVER_TOOL: Json = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}}
STRANGE: Json = {"type": "hologram", "beams": [1, 2.50, {"deep": None}]}


def tool_use(id_: str = "toolu_01", name: str = "get_weather", **input_: Any) -> Json:
    return {"type": "tool_use", "id": id_, "name": name, "input": input_ or {"city": "Zürich"}}


def token_usage(output: int = 6, **more: Any) -> Json:
    """A usage object; `more` are the counts beside input and output."""
    return {
        "input_tokens": PROMPT_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "service_tier": "standard",
    } | more


def message(
    *blocks: Json,
    model: str = MODEL,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
    usage: Mapping[str, Any] | None = None,
    **more: Any,
) -> Json:
    """A whole answer in Anthropic's true shape; `more` are members that nobody has heard of."""
    content = list(blocks or (TEXT,))
    return {
        "id": "msg_fake0001",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason or _stop_reason(content),
        "stop_sequence": stop_sequence,
        "usage": dict(token_usage() if usage is None else usage),
    } | more


def event(name: str, **members: Any) -> bytes:
    data = json.dumps({"type": name, **members}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()


PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def stream(answer: Json, *, delta_more: Mapping[str, Any] | None = None) -> list[bytes]:
    """The same answer as the events that Anthropic sends: texts in pieces, a ping, cumulative usage at the end."""
    usage = answer["usage"]
    begun = {name: value for name, value in usage.items() if name not in ("server_tool_use", "output_tokens_details")}
    start = answer | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": begun | {"output_tokens": 1},
    }
    told = [event("message_start", message=start), PING]
    for index, block in enumerate(answer["content"]):
        told += _block_events(index, block)
    ended = {
        name: usage[name] for name in ("output_tokens", "output_tokens_details", "server_tool_use") if name in usage
    }
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"], **(delta_more or {})}
    return [*told, event("message_delta", delta=delta, usage=ended), event("message_stop")]


def error_event(kind: str = "overloaded_error", text: str = "Overloaded") -> bytes:
    return event("error", error={"type": kind, "message": text})


def refused(status: int, kind: str, text: str = "no", **headers: str) -> Script:
    """An error status with Anthropic's body; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake"}
    return Script(status=status, headers=named, json_body=body)


def overloaded() -> Script:
    return refused(529, "overloaded_error", "Overloaded")


def says(*blocks: Json, **members: Any) -> Any:
    """A script that gives this answer, whole or streamed as the request asks."""

    def script(request: Request) -> Script:
        return _told(request, message(*blocks, **members))

    return script


def streams(frames: Sequence[bytes], breaks: Break | None = None, **more: Any) -> Script:
    """A stream of exactly these events."""
    return Script(frames=list(frames), done=False, breaks=breaks, headers={"request-id": "req_fake"}, **more)


def breaks_off(after_frames: int = 5) -> Script:
    return streams(stream(message()), Break(how="close", after_frames=after_frames))


class AnthropicUpstream(Upstream):
    """The fake vendor."""

    def __init__(self, *, models: Sequence[str] = (MODEL,), page: int = 1_000) -> None:
        super().__init__(models=models)
        self.page = page
        """As many models a page at most, whatever is asked for."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _correct(self, request: Request, path: str) -> Script:
        if request.method == "GET" and path == "/v1/models":
            return Script(json_body=self._models(request.path))
        if request.headers.get("anthropic-version") not in ("2023-06-01", "2026-10-21"):
            return refused(400, "invalid_request_error", "anthropic-version: header is required")
        if path == "/v1/messages/count_tokens":
            return Script(json_body={"input_tokens": COUNTED_TOKENS})
        if path != "/v1/messages":
            return refused(404, "not_found_error", path)
        asked = request.json
        for required in ("model", "messages", "max_tokens"):
            if not isinstance(asked, dict) or not asked.get(required):
                return refused(400, "invalid_request_error", f"{required}: Field required")
        return _told(request, message(model=asked["model"]))

    def _models(self, path: str) -> Json:
        after = path.partition("after_id=")[2].partition("&")[0]
        first = self.models.index(after) + 1 if after else 0
        page = self.models[first : first + self.page]
        return {
            "data": [_listed(model) for model in page],
            "has_more": first + self.page < len(self.models),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }


def _told(request: Request, answer: Json) -> Script:
    if isinstance(request.json, dict) and request.json.get("stream") is True:
        return streams(stream(answer))
    return Script(json_body=answer, headers={"request-id": "req_fake"})


def _listed(model: str) -> Json:
    yes, no = {"supported": True}, {"supported": False}
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "2026-02-04T00:00:00Z",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "lifecycle": "deprecated" if "old" in model else "active",
        "deprecated_at": "2026-06-01T00:00:00Z" if "old" in model else None,
        "retires_at": "2027-01-15T00:00:00Z" if "old" in model else None,
        "capabilities": {"image_input": yes, "pdf_input": yes, "structured_outputs": no, "thinking": yes},
    }


def _stop_reason(content: Sequence[Json]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"


def _block_events(index: int, block: Json) -> list[bytes]:
    def delta(**members: Any) -> bytes:
        return event("content_block_delta", index=index, delta=members)

    match block["type"]:
        case "text":
            cited = [delta(type="citations_delta", citation=each) for each in block.get("citations", ())]
            begun = {name: value for name, value in block.items() if name != "citations"} | {"text": ""}
            pieces = [*cited, *(delta(type="text_delta", text=piece) for piece in _pieces(block["text"]))]
        case "thinking":
            begun = block | {"thinking": "", "signature": ""}
            thoughts = [delta(type="thinking_delta", thinking=piece) for piece in _pieces(block["thinking"])]
            pieces = [*thoughts, delta(type="signature_delta", signature=block["signature"])]
        case "tool_use" | "server_tool_use":
            begun = block | {"input": {}}
            written = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
            pieces = [delta(type="input_json_delta", partial_json=piece) for piece in ("", *_pieces(written))]
        case _:
            begun, pieces = block, []
    start = event("content_block_start", index=index, content_block=begun)
    return [start, *pieces, event("content_block_stop", index=index)]


def _pieces(text: str, size: int = 7) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
