"""What callers of each dialect send for each feature, written by hand as their own documentation has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.catalog import Dialect

Json = dict[str, Any]

FEATURES: Final = (
    "text",
    "system",
    "multi-turn",
    "parallel tools",
    "tool results with images",
    "forced tool",
    "JSON schema",
    "image in",
    "PDF in",
    "thinking",
    "stop sequences",
    "max tokens",
    "refusal",
)
CALLERS: Final = (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC, Dialect.OPENAI_RESPONSES)

ASKED: Final = "Where is Paris?"
SYSTEM: Final = "Be brief."
EARLIER: Final = ("Hello", "Hello to you.")
PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF: Final = "JVBERi0xLjQKJSBhIGRvY3VtZW50CiUlRU9G"
PDF_NAME: Final = "report.pdf"
TOOL: Final = "get_weather"
PURPOSE: Final = "Tells the weather."
PARAMETERS: Final[Json] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
SCHEMA: Final[Json] = PARAMETERS
CALLED: Final = (("call_1", '{"city":"Paris"}'), ("call_2", '{"city":"Rome"}'))
RESULTS: Final = ("18 degrees", "see the map")
STOP: Final = "END"
OUTPUT_MAX: Final = 8_000
THINKING_BUDGET: Final = 2_048
EFFORT: Final = "low"


def _chat() -> Mapping[str, Json | None]:
    user = {"role": "user", "content": ASKED}
    tools = [{"type": "function", "function": {"name": TOOL, "description": PURPOSE, "parameters": PARAMETERS}}]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    file = {"type": "file", "file": {"filename": PDF_NAME, "file_data": f"data:application/pdf;base64,{PDF}"}}
    calls = [{"id": id_, "type": "function", "function": {"name": TOOL, "arguments": said}} for id_, said in CALLED]
    text = {"type": "text", "text": ASKED}

    def asks(*messages: Json, **members: Any) -> Json:
        return {"model": "any", "messages": list(messages or (user,)), "max_completion_tokens": OUTPUT_MAX} | members

    schema = {"name": "place", "schema": SCHEMA, "strict": True}
    return {
        "text": asks(),
        "system": asks({"role": "system", "content": SYSTEM}, user),
        "multi-turn": asks({"role": "user", "content": EARLIER[0]}, {"role": "assistant", "content": EARLIER[1]}, user),
        "parallel tools": asks(tools=tools),
        "tool results with images": asks(
            user,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": RESULTS[0]},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": RESULTS[1]}, picture]},
            tools=tools,
        ),
        "forced tool": asks(tools=tools, tool_choice={"type": "function", "function": {"name": TOOL}}),
        "JSON schema": asks(response_format={"type": "json_schema", "json_schema": schema}),
        "image in": asks({"role": "user", "content": [text, picture]}),
        "PDF in": asks({"role": "user", "content": [text, file]}),
        "thinking": asks(reasoning_effort=EFFORT),
        "stop sequences": asks(stop=[STOP]),
        "max tokens": asks(),
        "refusal": asks(),
    }


def _anthropic() -> Mapping[str, Json | None]:
    user = {"role": "user", "content": ASKED}
    tools = [{"name": TOOL, "description": PURPOSE, "input_schema": PARAMETERS}]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    document = {"type": "document", "title": PDF_NAME} | {
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}
    }
    text = {"type": "text", "text": ASKED}
    uses = [
        {"type": "tool_use", "id": id_, "name": TOOL, "input": {"city": city}}
        for (id_, _), city in zip(CALLED, ("Paris", "Rome"), strict=True)
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "call_1", "content": RESULTS[0]},
        {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": RESULTS[1]}, picture]},
    ]

    def asks(*messages: Json, **members: Any) -> Json:
        return {"model": "any", "max_tokens": OUTPUT_MAX, "messages": list(messages or (user,))} | members

    return {
        "text": asks(),
        "system": asks(system=SYSTEM),
        "multi-turn": asks({"role": "user", "content": EARLIER[0]}, {"role": "assistant", "content": EARLIER[1]}, user),
        "parallel tools": asks(tools=tools),
        "tool results with images": asks(
            user, {"role": "assistant", "content": uses}, {"role": "user", "content": results}, tools=tools
        ),
        "forced tool": asks(tools=tools, tool_choice={"type": "tool", "name": TOOL}),
        "JSON schema": asks(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        "image in": asks({"role": "user", "content": [text, picture]}),
        "PDF in": asks({"role": "user", "content": [text, document]}),
        "thinking": asks(thinking={"type": "enabled", "budget_tokens": THINKING_BUDGET}),
        "stop sequences": asks(stop_sequences=[STOP]),
        "max tokens": asks(),
        "refusal": asks(),
    }


def _responses() -> Mapping[str, Json | None]:
    tools = [{"type": "function", "name": TOOL, "description": PURPOSE, "parameters": PARAMETERS, "strict": False}]
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    file = {"type": "input_file", "filename": PDF_NAME, "file_data": f"data:application/pdf;base64,{PDF}"}
    text = {"type": "input_text", "text": ASKED}
    calls = [{"type": "function_call", "call_id": id_, "name": TOOL, "arguments": said} for id_, said in CALLED]
    mapped = [{"type": "input_text", "text": RESULTS[1]}, picture]

    def asks(input_: Any = ASKED, **members: Any) -> Json:
        return {"model": "any", "input": input_, "max_output_tokens": OUTPUT_MAX, "store": False} | members

    def said(*parts: Json) -> Json:
        return {"type": "message", "role": "user", "content": list(parts)}

    return {
        "text": asks(),
        "system": asks(instructions=SYSTEM),
        "multi-turn": asks(
            [
                {"role": "user", "content": EARLIER[0]},
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": EARLIER[1], "annotations": []}],
                },
                {"role": "user", "content": ASKED},
            ]
        ),
        "parallel tools": asks(tools=tools),
        "tool results with images": asks(
            [
                said(text),
                *calls,
                {"type": "function_call_output", "call_id": "call_1", "output": RESULTS[0]},
                {"type": "function_call_output", "call_id": "call_2", "output": mapped},
            ],
            tools=tools,
        ),
        "forced tool": asks(tools=tools, tool_choice={"type": "function", "name": TOOL}),
        "JSON schema": asks(
            text={"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
        ),
        "image in": asks([said(text, picture)]),
        "PDF in": asks([said(text, file)]),
        "thinking": asks(reasoning={"effort": EFFORT, "summary": "auto"}),
        # The dialect has no stop sequences.
        "stop sequences": None,
        "max tokens": asks(),
        "refusal": asks(),
    }


REQUESTS: Final[Mapping[Dialect, Mapping[str, Json | None]]] = {
    Dialect.OPENAI_CHAT: _chat(),
    Dialect.ANTHROPIC: _anthropic(),
    Dialect.OPENAI_RESPONSES: _responses(),
}
"""None where the caller's dialect cannot ask for it."""


def streamed(request: Json, dialect: Dialect) -> Json:
    options = {"stream_options": {"include_usage": True}} if dialect is Dialect.OPENAI_CHAT else {}
    return request | {"stream": True} | options
