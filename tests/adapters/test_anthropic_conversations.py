"""Requests in Anthropic's dialect are read whole, and written for its vendors as they take them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.anthropic.codec import AnthropicCaller, AnthropicCodec
from adapters.dialects.anthropic.conversation_writer import LOSSES, OUTPUT_MAX_UNKNOWN, valid_id
from adapters.dialects.anthropic.models import ThinkingStyle, rules_of
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.conversation import (
    Audio,
    CacheMark,
    Citation,
    Conversation,
    CustomTool,
    Document,
    Effort,
    Extras,
    Foreign,
    FunctionTool,
    Image,
    Inline,
    JsonObject,
    Link,
    Opaque,
    Reasoning,
    Refusal,
    Role,
    ServerTool,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
)
from tests.fakes.anthropic_upstream import REDACTED, SERVER_TOOL, STRANGE, THINKING, tool_use
from tests.fakes.upstream import encode

OLD, BUDGET, ADAPTIVE, NEW = "claude-3-haiku-20240307", "claude-opus-4-5", "claude-opus-4-6", "claude-opus-4-8"
MARK = {"type": "ephemeral", "ttl": "1h"}
WEATHER = FunctionTool(name="weather", parameters={"type": "object", "properties": {}})
HELLO = Turn(role=Role.USER, blocks=(Text(text="Hello"),))


def call(model: str = NEW, dialect: Dialect = Dialect.OPENAI_CHAT, output_max: int | None = None) -> ChatCall:
    request = ChatRequest(
        dialect=dialect,
        body=b"{}",
        model="acme/one",
        streamed=False,
        wants_usage=False,
        output_max=None,
        prompt_tokens=1,
    )
    return ChatCall(request=request, vendor_model=model, id="r1", output_max=output_max)


def read(**members: Any) -> Conversation:
    sent = {"model": "acme/one", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]} | members
    return AnthropicCaller().read_conversation(encode(sent))


def write(*turns: Turn, model: str = NEW, output_max: int | None = None, **members: Any) -> tuple[Any, set[str]]:
    """The request as the vendor gets it, and what was dropped."""
    conversation = Conversation(turns=turns or (HELLO,), **members)
    written = AnthropicCodec().write_conversation(conversation, call(model, output_max=output_max))
    return json.loads(written.body), set(written.dropped)


def user(*blocks: Any) -> Turn:
    return Turn(role=Role.USER, blocks=blocks)


def assistant(*blocks: Any) -> Turn:
    return Turn(role=Role.ASSISTANT, blocks=blocks)


CORPUS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [{"role": "user", "content": "Hello"}]},
    "system as text": {"system": "Be brief."},
    "system as blocks": {
        "system": [{"type": "text", "text": "a", "cache_control": MARK}, {"type": "text", "text": "b"}]
    },
    "a coding agent's turn": {
        "system": [{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "user_1_session_2"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "tools": [
            {
                "name": "Read",
                "description": "Reads.",
                "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
                "cache_control": {"type": "ephemeral"},
                "eager_input_streaming": True,
            },
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8, "allowed_domains": ["a.test"]},
            {"type": "bash_20250124", "name": "bash"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}]},
            {"role": "assistant", "content": [THINKING, REDACTED, {"type": "text", "text": "So"}, tool_use("toolu_1")]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [
                            {"type": "text", "text": "Fog"},
                            {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}},
                        ],
                        "is_error": True,
                        "cache_control": {"type": "ephemeral"},
                    },
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    },
    "documents": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                        "title": "T",
                        "context": "C",
                        "citations": {"enabled": True},
                    },
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "naïve"}},
                    {"type": "document", "source": {"type": "url", "url": "https://a.test/b.pdf"}},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                    {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "x"}]},
                    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                ],
            }
        ]
    },
    "server tools and what nobody knows": {
        "messages": [
            {"role": "user", "content": "Search"},
            {
                "role": "assistant",
                "content": [
                    SERVER_TOOL,
                    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
                    {
                        "type": "text",
                        "text": "Said",
                        "citations": [
                            {
                                "type": "web_search_result_location",
                                "url": "u",
                                "title": "t",
                                "cited_text": "c",
                                "encrypted_index": "E",
                            }
                        ],
                    },
                    STRANGE,
                ],
            },
            {"role": "user", "content": "Go on"},
        ]
    },
    "settings": {
        "stop_sequences": ["END"],
        "top_k": 5,
        "temperature": 0.5,
        "service_tier": "standard_only",
        "tools": [{"name": "n", "input_schema": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "tool", "name": "n"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "novel": {"x": 1},
    },
    "thinking by budget": {"thinking": {"type": "enabled", "budget_tokens": 2_000}, "max_tokens": 4_000},
    "a kind of thinking that came later": {"thinking": {"type": "between_tools"}},
    "no thinking": {"thinking": {"type": "disabled"}},
}


class TestReading:
    @pytest.mark.parametrize("name", CORPUS)
    def test_what_is_read_is_written_back_without_loss(self, name: str) -> None:
        conversation = read(**CORPUS[name])
        model = {"thinking by budget": BUDGET, "settings": "local-model"}.get(name, NEW)

        written = AnthropicCodec().write_conversation(conversation, call(model, Dialect.ANTHROPIC))

        assert written.dropped == ()
        again = AnthropicCaller().read_conversation(written.body)
        assert again == conversation
        sent = json.loads(written.body)
        for member, value in CORPUS[name].items():
            if member not in ("messages", "system"):
                assert sent[member] == value

    def test_it_is_read_into_the_words_of_no_dialect(self) -> None:
        conversation = read(**CORPUS["a coding agent's turn"])

        system, asked, answered, results = conversation.turns
        assert system.role is Role.SYSTEM
        assert asked.blocks == (Text(text="Look"),)
        assert answered.blocks[0] == Thinking(text="Let me see.", sealed=Opaque("anthropic", "c2lnbmF0dXJl"))
        assert answered.blocks[1] == Thinking(sealed=Opaque("anthropic", "c2VhbGVk"), redacted=True)
        assert answered.blocks[3] == ToolCall(id="toolu_1", name="get_weather", arguments='{"city":"Zürich"}')
        result = results.blocks[0]
        assert isinstance(result, ToolResult)
        assert (result.failed, result.cache) == (True, CacheMark())
        assert result.content[1] == Image(source=Link("https://a.test/b.png"))
        assert conversation.tools[1] == WebSearch(
            uses_max=8,
            allowed_domains=("a.test",),
            extras=Extras(Dialect.ANTHROPIC, {"type": "web_search_20250305", "name": "web_search"}),
        )
        assert isinstance(conversation.tools[2], ServerTool)
        assert conversation.reasoning == Reasoning(effort=Effort.HIGH, adaptive=True, summary="auto")
        assert conversation.parallel_tools is False
        assert conversation.user == "user_1_session_2"

    def test_what_only_this_dialect_has_is_text_to_others(self) -> None:
        blocks = read(**CORPUS["documents"]).turns[0].blocks

        assert isinstance(blocks[1], Document)
        assert blocks[1].source == Inline("text/plain", "bmHDr3Zl")
        assert isinstance(blocks[3], Document)
        assert blocks[3].source == Inline("text/plain", "eA==")
        assert isinstance(blocks[4], Text)
        assert blocks[4].text == "T\ns\nx"


class TestTurns:
    def test_system_messages_move_to_the_beginning(self) -> None:
        sent, _ = write(
            Turn(role=Role.SYSTEM, blocks=(Text(text="a"),)),
            HELLO,
            Turn(role=Role.DEVELOPER, blocks=(Text(text="b"),)),
        )

        assert [block["text"] for block in sent["system"]] == ["a", "b"]
        assert sent["messages"] == [{"role": "user", "content": "Hello"}]

    def test_turns_of_one_side_are_one_and_results_come_first_in_a_single_turn(self) -> None:
        sent, _ = write(
            HELLO,
            user(Text(text="there")),
            assistant(ToolCall(id="a", name="f", arguments="")),
            assistant(ToolCall(id="b", name="f", arguments='{"x":1.50}')),
            Turn(role=Role.TOOL, blocks=(ToolResult(call_id="a", content=(Text(text="1"),)),)),
            user(Text(text="So?")),
            Turn(role=Role.TOOL, blocks=(ToolResult(call_id="b", failed=True),)),
        )

        assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
        assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
        assert sent["messages"][2]["content"][1] == {"type": "tool_result", "tool_use_id": "b", "is_error": True}
        assert [block["input"] for block in sent["messages"][1]["content"]] == [{}, {"x": 1.5}]

    def test_digits_of_arguments_are_kept(self) -> None:
        written = AnthropicCodec().write_conversation(
            Conversation(turns=(HELLO, assistant(ToolCall(id="a", name="f", arguments='{"x":1.50}')), HELLO)), call()
        )

        assert b'"input":{"x":1.50}' in written.body

    @pytest.mark.parametrize("arguments", ['{"x":', "[1]", "3", '"a"', '{"x":"\\ud800"}', "{" * 2_000])
    def test_arguments_that_are_no_object_do_not_spoil_the_request(self, arguments: str) -> None:
        sent, _ = write(HELLO, assistant(ToolCall(id="a", name="f", arguments=arguments)), HELLO)

        assert sent["messages"][1]["content"][0]["input"] == {"_raw": arguments}

    def test_what_is_empty_is_left_out(self) -> None:
        sent, _ = write(
            user(Text(text=" \n"), Text(text="Hello")),
            assistant(Text(text=""), Thinking(text="unsealed"), Thinking(text="x", sealed=Opaque("gemini", "AA"))),
            user(Text(text="there")),
        )

        assert sent["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("Hello", "there")]}
        ]

    def test_a_conversation_that_the_assistant_begins_or_that_has_only_a_system_prompt(self) -> None:
        begun, _ = write(assistant(Text(text="Hi")), HELLO)
        alone, _ = write(Turn(role=Role.SYSTEM, blocks=(Text(text="Say hi"),)))

        assert [turn["role"] for turn in begun["messages"]] == ["user", "assistant", "user"]
        assert alone["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hi"}]}]
        assert "system" not in alone

    def test_only_older_models_go_on_with_the_assistants_words(self) -> None:
        sent, _ = write(HELLO, assistant(Text(text="I say \n")), model=BUDGET)
        assert sent["messages"][1]["content"] == "I say"
        with pytest.raises(UnsupportedParameter):
            write(HELLO, assistant(Text(text="I say")), model=NEW)

    def test_ids_are_made_valid_the_same_way_everywhere(self) -> None:
        odd = "functions.f:0|" + "x" * 80
        sent, _ = write(
            HELLO, assistant(ToolCall(id=odd, name="f", arguments="{}")), user(ToolResult(call_id=odd)), HELLO
        )

        id_ = sent["messages"][1]["content"][0]["id"]
        assert id_ == sent["messages"][2]["content"][0]["tool_use_id"] == valid_id(odd)
        assert len(id_) <= 64
        assert valid_id("a.b") != valid_id("a:b")
        assert valid_id("toolu_1") == "toolu_1"
        assert valid_id("").startswith("toolu_")

    def test_text_documents_are_sent_as_text(self) -> None:
        sent, _ = write(user(Document(source=Inline("text/csv", "YSxi"), name="n")))

        assert sent["messages"][0]["content"][0]["source"] == {
            "type": "text",
            "media_type": "text/plain",
            "data": "a,b",
        }

    @pytest.mark.parametrize(
        "block",
        [
            Audio(data="AA==", format="wav"),
            Image(source=StoredFile("file_1")),
            Document(source=StoredFile("file_1")),
            Document(source=Inline("application/zip", "AA==")),
            Document(source=Inline("text/plain", "////")),
            Image(source=Link("gs://bucket/a.png")),
        ],
    )
    def test_what_would_change_the_answer_is_refused_by_name(self, block: Any) -> None:
        with pytest.raises(UnsupportedParameter) as refused:
            write(HELLO, assistant(Text(text="a")), user(block))
        assert refused.value.param == "messages[2].content[0]"
        with pytest.raises(UnsupportedParameter) as refused:
            write(answers=2)
        assert refused.value.param == "n"

    def test_what_only_tunes_is_dropped_and_named(self) -> None:
        _, dropped = write(
            user(Text(text="a"), Image(source=Link("https://a.test/b.png"), detail="high")),
            assistant(
                Text(text="b", citations=(Citation(url="u"),)),
                Image(source=Link("https://a.test/b.png")),
                Foreign(Dialect.OPENAI_RESPONSES, "shell_call", {}),
                Refusal(text="no"),
            ),
            Turn(role=Role.USER, blocks=(Text(text="c"),), name="Ann"),
            tools=(ServerTool(Dialect.GEMINI, "maps", {}), WebSearch(context_size="low")),
            seed=1,
            frequency_penalty=1,
            presence_penalty=1,
            logit_bias={"1": 1},
            logprobs=2,
            metadata={"a": "b"},
            cache_key="k",
            verbosity="low",
            service_tier="flex",
            stop=(" ", "x"),
            output_format=JsonObject(),
            extras=Extras(Dialect.OPENAI_CHAT, {"prediction": {}}),
        )

        named = dropped - {"openai_responses:shell_call", "gemini:maps", "prediction"}
        assert named <= LOSSES.keys() | {"metadata"}
        assert named == {
            "seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "metadata", "prompt_cache_key",
            "verbosity", "service_tier", "stop", "response_format", "detail", "citations", "images", "messages.name",
            "web_search.context_size",
        }  # fmt: skip
        assert {"openai_responses:shell_call", "gemini:maps", "prediction"} <= dropped


class TestTools:
    def test_choices(self) -> None:
        def choice(**members: Any) -> Any:
            return write(tools=(WEATHER,), **members)[0].get("tool_choice")

        assert choice() is None
        assert choice(tool_choice=ToolChoice()) == {"type": "auto"}
        assert choice(tool_choice=ToolChoice(mode=ToolMode.NONE), parallel_tools=False) == {"type": "none"}
        assert choice(tool_choice=ToolChoice(mode=ToolMode.REQUIRED)) == {"type": "any"}
        assert choice(tool_choice=ToolChoice(named="weather")) == {"type": "tool", "name": "weather"}
        assert choice(parallel_tools=False) == {"type": "auto", "disable_parallel_tool_use": True}
        assert "tool_choice" not in write(tool_choice=ToolChoice(mode=ToolMode.REQUIRED))[0]

    def test_only_the_allowed_tools_are_sent(self) -> None:
        other = FunctionTool(name="other", parameters=None)

        sent, _ = write(tools=(WEATHER, other), tool_choice=ToolChoice(mode=ToolMode.REQUIRED, allowed=("other",)))

        assert sent["tools"] == [{"name": "other", "input_schema": {"type": "object", "properties": {}}}]
        assert sent["tool_choice"] == {"type": "any"}

    def test_a_custom_tool_becomes_a_function_of_one_text(self) -> None:
        grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a+/"}}

        sent, dropped = write(
            HELLO,
            assistant(ToolCall(id="a", name="patch", arguments="*** Begin", custom=True)),
            user(ToolResult(call_id="a", custom=True)),
            tools=(CustomTool(name="patch", description="Patches.", format=grammar),),
        )

        assert sent["tools"][0]["input_schema"]["required"] == ["input"]
        assert "start: /a+/" in sent["tools"][0]["description"]
        assert sent["messages"][1]["content"][0]["input"] == {"input": "*** Begin"}
        assert dropped == {"tools[0].format"}

    def test_older_models_are_not_told_to_be_strict(self) -> None:
        tool = FunctionTool(name="f", parameters={}, strict=True)

        assert write(tools=(tool,))[0]["tools"][0]["strict"] is True
        sent, dropped = write(tools=(tool,), model=OLD)
        assert "strict" not in sent["tools"][0]
        assert dropped == {"strict"}


class TestThinking:
    @pytest.mark.parametrize(
        ("model", "style"),
        [
            ("claude-3-haiku-20240307", ThinkingStyle.NONE),
            ("claude-3-5-sonnet", ThinkingStyle.NONE),
            ("claude-2.1", ThinkingStyle.NONE),
            ("claude-v1", ThinkingStyle.NONE),
            ("claude-3-7-sonnet-20250219", ThinkingStyle.BUDGET),
            ("anthropic/claude-sonnet-4-20250514", ThinkingStyle.BUDGET),
            ("anthropic.claude-opus-4-1-20250805-v1:0", ThinkingStyle.BUDGET),
            ("claude-haiku-4-5@20251001", ThinkingStyle.BUDGET),
            ("claude-opus-4-6", ThinkingStyle.ADAPTIVE),
            ("claude-opus-4.8", ThinkingStyle.ADAPTIVE),
            ("claude-mythos-preview", ThinkingStyle.ADAPTIVE),
            ("claude-fable-5-2", ThinkingStyle.ADAPTIVE),
            ("claude-sonnet-5", ThinkingStyle.ADAPTIVE),
            ("deepseek-chat", ThinkingStyle.BUDGET),
        ],
    )
    def test_every_generation_has_its_way_to_think(self, model: str, style: ThinkingStyle) -> None:
        assert rules_of(model).thinking is style

    @pytest.mark.parametrize(
        ("reasoning", "thinking", "effort"),
        [
            (Reasoning(effort=Effort.MINIMAL), {"type": "adaptive"}, "low"),
            (Reasoning(effort=Effort.XHIGH, summary="auto"), {"type": "adaptive", "display": "summarized"}, "xhigh"),
            (Reasoning(budget_tokens=9_000), {"type": "adaptive"}, "high"),
            (Reasoning(adaptive=True, hidden=True), {"type": "adaptive", "display": "omitted"}, None),
            (Reasoning(effort=Effort.NONE), {"type": "disabled"}, None),
        ],
    )
    def test_newer_models_are_told_an_effort(self, reasoning: Reasoning, thinking: Any, effort: str | None) -> None:
        sent, dropped = write(reasoning=reasoning)

        assert sent["thinking"] == thinking
        assert sent.get("output_config", {}).get("effort") == effort
        assert dropped == set()

    @pytest.mark.parametrize(
        ("reasoning", "output_max", "budget"),
        [
            (Reasoning(effort=Effort.MINIMAL), 64_000, 1_024),
            (Reasoning(effort=Effort.LOW), 64_000, 2_048),
            (Reasoning(effort=Effort.HIGH), 64_000, 16_384),
            (Reasoning(effort=Effort.HIGH), 8_000, 6_000),
            (Reasoning(effort=Effort.HIGH), 1_200, None),
            (Reasoning(budget_tokens=20_000), 8_000, 7_999),
            (Reasoning(budget_tokens=100), 8_000, 1_024),
            (Reasoning(adaptive=True), 64_000, 8_192),
        ],
    )
    def test_older_models_are_told_a_budget_below_their_limit(
        self, reasoning: Reasoning, output_max: int, budget: int | None
    ) -> None:
        sent, dropped = write(reasoning=reasoning, model=BUDGET, output_max=output_max)

        assert sent.get("thinking", {}).get("budget_tokens") == budget
        assert dropped == (set() if budget else {"reasoning_effort"})

    def test_it_gives_way_to_what_the_answer_means(self) -> None:
        high = Reasoning(effort=Effort.HIGH)
        forced = {"tools": (WEATHER,), "tool_choice": ToolChoice(mode=ToolMode.REQUIRED), "reasoning": high}
        for model in (BUDGET, NEW):
            sent, dropped = write(model=model, output_max=64_000, **forced)
            assert "thinking" not in sent
            assert dropped == {"reasoning_effort"}
        # A turn that goes on without the thought it began with.
        turns = (HELLO, assistant(ToolCall(id="a", name="f", arguments="{}")), user(ToolResult(call_id="a")))
        sent, dropped = write(*turns, reasoning=high, model=BUDGET, output_max=64_000)
        assert "thinking" not in sent
        sent, _ = write(*turns, reasoning=high, model=NEW)
        assert sent["thinking"] == {"type": "adaptive"}
        sent, dropped = write(reasoning=high, model=OLD)
        assert (sent.get("thinking"), dropped) == (None, {"reasoning_effort"})

    def test_no_signature_of_another_family_is_sent(self) -> None:
        thoughts = [Thinking(text="t", sealed=Opaque(origin, "SEAL")) for origin in ("openai", "gemini", "anthropic")]

        sent, _ = write(HELLO, assistant(*thoughts, Text(text="a")), HELLO)

        assert sent["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "t", "signature": "SEAL"},
            {"type": "text", "text": "a"},
        ]


class TestSettings:
    def test_a_limit_is_always_named(self) -> None:
        assert write()[0]["max_tokens"] == OUTPUT_MAX_UNKNOWN
        assert write(output_max=None)[0]["max_tokens"] == OUTPUT_MAX_UNKNOWN
        conversation = Conversation(turns=(HELLO,), output_max=100_000)
        written = AnthropicCodec().write_conversation(conversation, call(output_max=64_000))
        assert json.loads(written.body)["max_tokens"] == 64_000
        assert write(output_max=32_000)[0]["max_tokens"] == 32_000

    @pytest.mark.parametrize(
        ("model", "members", "sent_", "dropped_"),
        [
            (NEW, {"temperature": 1, "top_p": 0.5, "top_k": 4}, {}, {"temperature", "top_p", "top_k"}),
            (BUDGET, {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}, {"top_p"}),
            (BUDGET, {"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}, set()),
            (OLD, {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}, set()),
            (OLD, {"temperature": 1.7}, {"temperature": 1}, {"temperature"}),
            (BUDGET, {"temperature": 0.5, "reasoning": Reasoning(budget_tokens=2_000)}, {}, {"temperature"}),
        ],
    )
    def test_sampling(self, model: str, members: Any, sent_: Any, dropped_: set[str]) -> None:
        sent, dropped = write(model=model, output_max=8_000, **members)

        assert {name: sent[name] for name in ("temperature", "top_p", "top_k") if name in sent} == sent_
        assert dropped == dropped_

    def test_four_cache_marks_at_most_and_none_longer_behind_a_shorter_one(self) -> None:
        marked = [
            Text(text=str(n), cache=CacheMark(ttl)) for n, ttl in enumerate(("1h", "30m", "5m", "12h", None, "1h"))
        ]

        sent, dropped = write(user(*marked))

        marks = [block.get("cache_control") for block in sent["messages"][0]["content"]]
        short = {"type": "ephemeral", "ttl": "5m"}
        assert marks == [None, None, short, short, {"type": "ephemeral"}, short]
        assert dropped == {"cache_control"}

    def test_two_marks_are_sent_as_they_are(self) -> None:
        tool = FunctionTool(name="f", parameters={}, cache=CacheMark("1h"))

        sent, dropped = write(user(Text(text="a", cache=CacheMark())), tools=(tool,))

        assert sent["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
        assert sent["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
        assert dropped == set()
