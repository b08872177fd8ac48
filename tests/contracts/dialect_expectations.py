"""What a vendor of each wire must have been sent for each feature, read in the wire's own words.

Nothing of the gateway's own readers is used: a mistake that reader and writer share would not be seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.contracts.dialect_requests import (
    ASKED,
    CALLED,
    EARLIER,
    EFFORT,
    OUTPUT_MAX,
    PARAMETERS,
    PDF,
    PNG,
    PURPOSE,
    RESULTS,
    SCHEMA,
    STOP,
    SYSTEM,
    THINKING_BUDGET,
    TOOL,
)

Json = dict[str, Any]
CITIES: Final = tuple(json.loads(arguments) for _, arguments in CALLED)
PICTURE: Final = f"data:image/png;base64,{PNG}"
DOCUMENT: Final = f"data:application/pdf;base64,{PDF}"


def _told(content: Any) -> str:
    """The text of a content that is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def _chat(feature: str, sent: Json) -> None:
    messages = sent["messages"]
    turns = [(each["role"], _told(each.get("content"))) for each in messages]
    match feature:
        case "system":
            assert turns in ([("system", SYSTEM), ("user", ASKED)], [("developer", SYSTEM), ("user", ASKED)])
        case "multi-turn":
            assert turns == [("user", EARLIER[0]), ("assistant", EARLIER[1]), ("user", ASKED)]
        case "tool results with images":
            assert [each["role"] for each in messages[:4]] == ["user", "assistant", "tool", "tool"]
            calls = messages[1]["tool_calls"]
            assert [json.loads(call["function"]["arguments"]) for call in calls] == [*CITIES]
            assert [call["id"] for call in calls] == [each["tool_call_id"] for each in messages[2:4]]
            assert (turns[2][1], turns[3][1]) == RESULTS
            pictures = [
                part["image_url"]["url"]
                for each in messages[3:]
                for part in (each["content"] if isinstance(each["content"], list) else ())
                if part["type"] == "image_url"
            ]
            assert pictures == [PICTURE]
        case _:
            assert turns == [("user", ASKED)]
    if feature in ("parallel tools", "forced tool", "tool results with images"):
        (tool,) = sent["tools"]
        assert tool["function"]["name"] == TOOL
        assert tool["function"]["description"] == PURPOSE
        assert tool["function"]["parameters"] == PARAMETERS
    if feature == "forced tool":
        assert sent["tool_choice"] == {"type": "function", "function": {"name": TOOL}}
    if feature == "JSON schema":
        assert sent["response_format"]["type"] == "json_schema"
        assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    if feature == "image in":
        assert messages[0]["content"][1]["image_url"]["url"] == PICTURE
    if feature == "PDF in":
        assert messages[0]["content"][1]["file"]["file_data"] == DOCUMENT
    if feature == "thinking":
        assert sent["reasoning_effort"] == EFFORT
    if feature == "stop sequences":
        assert sent["stop"] == [STOP]
    assert OUTPUT_MAX in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


def _anthropic(feature: str, sent: Json) -> None:
    messages = sent["messages"]
    match feature:
        case "multi-turn":
            turns = [(each["role"], _told(each["content"])) for each in messages]
            assert turns == [("user", EARLIER[0]), ("assistant", EARLIER[1]), ("user", ASKED)]
        case "tool results with images":
            assert [each["role"] for each in messages] == ["user", "assistant", "user"]
            uses, results = messages[1]["content"], messages[2]["content"]
            assert [use["input"] for use in uses] == [*CITIES]
            assert [each["type"] for each in results] == ["tool_result", "tool_result"]
            assert [use["id"] for use in uses] == [each["tool_use_id"] for each in results]
            assert (_told(results[0]["content"]), _told(results[1]["content"])) == RESULTS
            assert results[1]["content"][1]["source"]["data"] == PNG
        case _:
            assert [(each["role"], _told(each["content"])) for each in messages] == [("user", ASKED)]
    if feature == "system":
        assert _told(sent["system"]) == SYSTEM
    if feature in ("parallel tools", "forced tool", "tool results with images"):
        (tool,) = sent["tools"]
        assert (tool["name"], tool["description"], tool["input_schema"]) == (TOOL, PURPOSE, PARAMETERS)
    if feature == "forced tool":
        assert sent["tool_choice"] == {"type": "tool", "name": TOOL}
    if feature == "JSON schema":
        assert sent["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    if feature in ("image in", "PDF in"):
        block = messages[0]["content"][1]
        assert block["type"] == ("image" if feature == "image in" else "document")
        kind, data = ("image/png", PNG) if feature == "image in" else ("application/pdf", PDF)
        assert block["source"] == {"type": "base64", "media_type": kind, "data": data}
    if feature == "thinking":
        own = sent["thinking"].get("type") == "enabled" and sent["thinking"]["budget_tokens"] == THINKING_BUDGET
        assert own or (sent["thinking"]["type"] == "adaptive" and sent["output_config"]["effort"] == EFFORT)
    if feature == "stop sequences":
        assert sent["stop_sequences"] == [STOP]
    assert sent["max_tokens"] == OUTPUT_MAX


def _gemini(feature: str, sent: Json) -> None:
    contents, config = sent["contents"], sent["generationConfig"]
    parts = contents[0]["parts"]
    match feature:
        case "multi-turn":
            turns = [(each["role"], _told(each["parts"])) for each in contents]
            assert turns == [("user", EARLIER[0]), ("model", EARLIER[1]), ("user", ASKED)]
        case "tool results with images":
            assert [each["role"] for each in contents] == ["user", "model", "user"]
            calls = [part["functionCall"] for part in contents[1]["parts"]]
            answered = [part["functionResponse"] for part in contents[2]["parts"] if "functionResponse" in part]
            assert [call["args"] for call in calls] == [*CITIES]
            assert [call["name"] for call in calls] == [each["name"] for each in answered] == [TOOL, TOOL]
            assert [call.get("id") for call in calls] == [each.get("id") for each in answered]
            for result, said in zip(answered, RESULTS, strict=True):
                assert said in json.dumps(result["response"])
            assert PNG in json.dumps(contents[2])
        case _:
            assert [(each["role"], _told(each["parts"])) for each in contents] == [("user", ASKED)]
    if feature == "system":
        assert _told(sent["systemInstruction"]["parts"]) == SYSTEM
    if feature in ("parallel tools", "forced tool", "tool results with images"):
        ((tool,),) = [each["functionDeclarations"] for each in sent["tools"]]
        assert (tool["name"], tool["description"]) == (TOOL, PURPOSE)
        assert tool["parametersJsonSchema"] == PARAMETERS
    if feature == "forced tool":
        wish = sent["toolConfig"]["functionCallingConfig"]
        assert wish == {"mode": "ANY", "allowedFunctionNames": [TOOL]}
    if feature == "JSON schema":
        assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", SCHEMA)
    if feature == "image in":
        assert parts[1]["inlineData"] == {"mimeType": "image/png", "data": PNG}
    if feature == "PDF in":
        assert parts[1]["inlineData"] == {"mimeType": "application/pdf", "data": PDF}
    if feature == "thinking":
        assert config["thinkingConfig"] == {"includeThoughts": True, "thinkingLevel": "LOW"}
    if feature == "stop sequences":
        assert config["stopSequences"] == [STOP]
    assert config["maxOutputTokens"] == OUTPUT_MAX


def _responses(feature: str, sent: Json) -> None:
    given = sent["input"]
    items: list[Json] = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    turns = [(item["role"], _told(item["content"])) for item in items if item.get("type", "message") == "message"]
    match feature:
        case "system":
            assert sent.get("instructions") == SYSTEM or turns.pop(0) in (("system", SYSTEM), ("developer", SYSTEM))
            assert turns == [("user", ASKED)]
        case "multi-turn":
            assert turns == [("user", EARLIER[0]), ("assistant", EARLIER[1]), ("user", ASKED)]
        case "tool results with images":
            calls = [item for item in items if item["type"] == "function_call"]
            results = [item for item in items if item["type"] == "function_call_output"]
            assert [json.loads(call["arguments"]) for call in calls] == [*CITIES]
            assert [call["call_id"] for call in calls] == [each["call_id"] for each in results]
            assert (_told(results[0]["output"]), _told(results[1]["output"])) == RESULTS
            assert results[1]["output"][1]["image_url"] == PICTURE
        case _:
            assert turns == [("user", ASKED)]
    if feature in ("parallel tools", "forced tool", "tool results with images"):
        (tool,) = sent["tools"]
        assert (tool["type"], tool["name"], tool["description"]) == ("function", TOOL, PURPOSE)
        assert tool["parameters"] == PARAMETERS
    if feature == "forced tool":
        assert sent["tool_choice"] == {"type": "function", "name": TOOL}
    if feature == "JSON schema":
        wish = sent["text"]["format"]
        assert (wish["type"], wish["schema"]) == ("json_schema", SCHEMA)
        assert wish["name"]
    if feature == "image in":
        assert items[0]["content"][1]["image_url"] == PICTURE
    if feature == "PDF in":
        assert items[0]["content"][1]["file_data"] == DOCUMENT
    if feature == "thinking":
        assert sent["reasoning"]["effort"] == EFFORT
    assert sent["max_output_tokens"] == OUTPUT_MAX


EXPECTATIONS: Final[Mapping[str, Callable[[str, Json], None]]] = {
    "OpenAI": _chat,
    "Anthropic": _anthropic,
    "Gemini": _gemini,
    "Responses": _responses,
}
"""By wire: raises AssertionError where a request does not say what was asked for."""
