"""The official Anthropic client, unpatched, finds in the gateway the API that it knows, on vendors of both dialects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.claude_place import ANTHROPIC_KEY, CLAUDE, OLDER, OPENAI, ClaudePlace, fresh, running_claude_place
from tests.e2e.conftest import HELLO, nanos
from tests.e2e.processes import eventually
from tests.fakes import anthropic_upstream as fake
from tests.fakes.anthropic_upstream import (
    COUNTED_TOKENS,
    REDACTED,
    SERVER_TOOL,
    STRANGE,
    THINKING,
    breaks_off,
    error_event,
    event,
    message,
    overloaded,
    refused,
    says,
    stream,
    streams,
    tool_use,
)
from tests.fakes.upstream import (
    TEXT_PIECES,
    Break,
    Reply,
    Script,
    ToolCall,
    UsageAt,
    bad_request,
    chunks,
    error_in_stream,
    stalls,
)

pytestmark = pytest.mark.anyio

ASKED: Any = {"max_tokens": 2_000, "messages": HELLO}
WEATHER: Any = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
SPENT = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 1_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 40},
}
SPENT_NANOS = 11 * 1_000 + 1_000 * 100 + 10 * 1_250 + 20 * 2_000 + 50 * 2_000


@pytest.fixture(scope="module")
async def module_claude_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClaudePlace]:
    async with running_claude_place(tmp_path_factory.mktemp("gateway")) as place:
        yield place


@pytest.fixture
def place(module_claude_place: ClaudePlace) -> Iterator[ClaudePlace]:
    yield from fresh(module_claude_place)


async def streamed(place: ClaudePlace, model: str, **options: Any) -> tuple[list[str], anthropic.types.Message]:
    """The kinds of the events, and what the client's own helper makes of them."""
    kinds: list[str] = []
    async with place.anthropic() as client:
        known: Any = ASKED | {"model": model} | options
        async with client.messages.stream(**known) as opened:
            async for each in opened:
                kinds.append(each.type)
            return kinds, await opened.get_final_message()


async def asked(place: ClaudePlace, model: str, **options: Any) -> anthropic.types.Message:
    async with place.anthropic() as client:
        known: Any = ASKED | {"model": model} | options
        answer: anthropic.types.Message = await client.messages.create(**known)
        return answer


def sent(place: ClaudePlace) -> Any:
    """The last request to the vendor of Anthropic's dialect."""
    return place.claude.requests[-1].json


class TestAnthropicsVendor:
    async def test_a_whole_answer(self, place: ClaudePlace) -> None:
        answer = await asked(place, CLAUDE)

        assert answer.content[0].type == "text"
        assert answer.content[0].text == fake.TEXT["text"]
        assert answer.stop_reason == "end_turn"
        assert answer.usage.model_extra == {"cost": (11 * 1_000 + 6 * 2_000) / 10**9}
        assert sent(place) == ASKED | {"model": CLAUDE}
        headers = place.claude.requests[-1].headers
        assert headers["x-api-key"] == ANTHROPIC_KEY
        assert headers["anthropic-version"] == "2026-10-21", "the caller's, which this client sends by itself"
        await place.messages()
        assert place.claude.requests[-1].headers["anthropic-version"] == "2023-06-01"
        await place.verify()

    async def test_a_stream(self, place: ClaudePlace) -> None:
        kinds, answer = await streamed(place, CLAUDE)

        assert kinds[0] == "message_start"
        assert kinds[-1] == "message_stop"
        assert answer.content[0].type == "text"
        assert answer.content[0].text == fake.TEXT["text"]
        assert answer.usage.output_tokens == 6

    async def test_thinking_with_its_signature_tools_and_sealed_thoughts(self, place: ClaudePlace) -> None:
        blocks = (THINKING, REDACTED, fake.TEXT, tool_use(), tool_use("toolu_02", city="Bern"))
        place.claude.by_model[CLAUDE] = says(*blocks)

        whole = await asked(place, CLAUDE, tools=[WEATHER])
        _, added = await streamed(place, CLAUDE, tools=[WEATHER])

        assert [block.model_dump(exclude_none=True) for block in whole.content] == list(blocks)
        assert whole.stop_reason == added.stop_reason == "tool_use"
        assert [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in added.content] == [
            block.model_dump(exclude_none=True) for block in whole.content
        ]

    async def test_a_cache_with_both_times_to_live_is_charged_to_the_nano(self, place: ClaudePlace) -> None:
        place.claude.by_model[CLAUDE] = says(usage=SPENT)
        before = await place.charged()

        whole = await place.messages()
        through = await place.messages(stream=True)

        assert await place.charged() - before == 2 * SPENT_NANOS
        assert nanos(str(whole.json["usage"]["cost"])) == SPENT_NANOS
        assert nanos(whole.headers["x-gatewayz-cost-usd"]) == SPENT_NANOS
        assert b'"cost":' in through.body.split(b"event: message_delta")[1]
        usage = (await place.generation(through.request_id))["usage"]
        assert usage["reasoning"] == 40
        assert (usage["cache_write_5m"], usage["cache_write_1h"], usage["cache_read"]) == (10, 20, 1_000)

    async def test_bytes_are_passed_on_as_they_came_but_for_the_cost(self, place: ClaudePlace) -> None:
        told = message(STRANGE, fake.TEXT, SERVER_TOOL, novel={"a": 1.50})
        frames = [*stream(told)[:-2], event("hologram_faded", beams=[1]), *stream(told)[-2:]]
        place.claude.by_model[CLAUDE] = streams(frames, line_end=b"\n")

        answer = await place.messages(stream=True)

        ours = answer.body.replace(b',"cost":0.000023', b"")
        assert ours == b"".join(frames)

        body = b'{"x":1.50, "content":[],\n"usage":{"input_tokens":11,"output_tokens":6}}'
        place.claude.by_model[CLAUDE] = Script(body=body)
        whole = await place.messages()
        assert whole.body == body.replace(b"6}", b'6,"cost":0.000023}')

    async def test_a_request_changes_in_the_model_and_the_gateways_fields_alone(self, place: ClaudePlace) -> None:
        body = (
            b'{ "model":"%b", "max_tokens" : 100,"novel":{"x":1.50},"session_id":"s1", "max_cost_usd":"0.5",\n'
            b'"models":["%b"],"messages":[{"role":"user","content":"\\u0041"}],"provider":{"sort":"price"}}'
        ) % (CLAUDE.encode(), OLDER.encode())

        answer = await place.post(body, headers={"anthropic-beta": "one-1,two-2", "anthropic-version": "2026-10-21"})

        assert answer.status == 200
        kept = (
            b'{ "model":"%b", "max_tokens" : 100,"novel":{"x":1.50},"messages":[{"role":"user","content":"\\u0041"}]}'
        )
        assert place.claude.requests[-1].body == kept % CLAUDE.encode()
        headers = place.claude.requests[-1].headers
        assert (headers["anthropic-beta"], headers["anthropic-version"]) == ("one-1,two-2", "2026-10-21")

    async def test_thoughts_of_another_family_are_left_out(self, place: ClaudePlace) -> None:
        history = [
            {"role": "user", "content": "Hello"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "gwz1.openai.AAAA"},
                    {"type": "thinking", "thinking": "unsigned", "signature": ""},
                    THINKING,
                    fake.TEXT,
                ],
            },
            {"role": "user", "content": "Go on"},
        ]

        await asked(place, CLAUDE, messages=history)

        assert sent(place)["messages"][1]["content"] == [THINKING, fake.TEXT]

    async def test_tokens_are_counted_by_the_vendor(self, place: ClaudePlace) -> None:
        before = await place.charged()
        async with place.anthropic() as client:
            counted = await client.messages.count_tokens(model=CLAUDE, messages=HELLO)

        assert counted.input_tokens == COUNTED_TOKENS
        assert counted.model_extra == {}
        assert await place.charged() == before
        assert "session_id" not in sent(place)

    async def test_claude_code_finds_what_it_probes_for(self, place: ClaudePlace) -> None:
        answer = await place.messages(path="/v1/messages?beta=true", headers={"x-claude-code-session-id": "s1"})
        head = await place.http.head("/")
        get = await place.http.get("/")
        bearer = await place.messages(headers={"x-api-key": "", "Authorization": f"Bearer {place.key}"})

        assert (answer.status, head.status_code, get.status_code, bearer.status) == (200, 200, 200, 200)
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        assert answer.headers["x-gatewayz-vendor"] == "claude"

    async def test_silence_is_filled_with_pings(self, place: ClaudePlace) -> None:
        delays = [0.0] * 5 + [2.5]
        place.claude.by_model[CLAUDE] = streams(stream(message()), frame_delay_s=delays)

        answer = await place.messages(stream=True)
        kinds, added = await streamed(place, CLAUDE)

        assert answer.body.count(b"event: ping\n") >= 2
        assert answer.body.replace(fake.PING, b"").startswith(b"event: message_start")
        assert (kinds[-1], added.stop_reason) == ("message_stop", "end_turn")

    async def test_a_repeated_request_gets_the_same_answer_and_is_charged_once(self, place: ClaudePlace) -> None:
        for streams_ in (False, True):
            key = {"Idempotency-Key": f"messages-{streams_}"}
            before = await place.charged()
            first = await place.messages(stream=streams_, headers=key)
            again = await place.messages(stream=streams_, headers=key)

            assert again.body == first.body
            assert again.headers["x-gatewayz-replayed"] == "true"
            assert again.headers["content-type"] == first.headers["content-type"]
            assert await place.charged() - before == 11 * 1_000 + 6 * 2_000
            other = await place.messages(stream=streams_, headers=key, max_tokens=7)
            assert (other.status, other.error["type"]) == (409, "invalid_request_error")

    async def test_a_leaving_caller_pays_for_the_cache_that_was_read(self, place: ClaudePlace) -> None:
        told = message({"type": "text", "text": "word " * 400}, usage=SPENT)
        place.claude.by_model[CLAUDE] = streams(stream(told), Break(how="stall", after_frames=40))
        before = await place.charged()

        async with place.anthropic() as client:
            opened = await client.messages.create(model=CLAUDE, stream=True, **ASKED)
            seen = 0
            async for each in opened:
                seen += each.type == "content_block_delta"
                if seen == 20:
                    break
            await opened.close()
        await place.claude.wait_closed(0)

        async def charged() -> None:
            spent = await place.charged() - before
            fixed = 11 * 1_000 + 1_000 * 100 + 10 * 1_250 + 20 * 2_000
            assert fixed < spent <= fixed + 100 * 2_000

        await eventually(charged)
        await place.verify()


class TestFailures:
    @pytest.mark.parametrize(
        ("script", "status", "kind"),
        [
            (refused(400, "invalid_request_error", "messages: bad"), 400, "invalid_request_error"),
            (refused(401, "authentication_error"), 529, "overloaded_error"),
            (refused(402, "billing_error"), 529, "overloaded_error"),
            (refused(413, "request_too_large"), 413, "request_too_large"),
            (refused(429, "rate_limit_error", retry_after="7"), 429, "rate_limit_error"),
            (refused(500, "api_error"), 502, "api_error"),
            (overloaded(), 529, "overloaded_error"),
            (refused(400, "invalid_request_error", "prompt is too long: 9 tokens > 5"), 400, "invalid_request_error"),
            (refused(400, "invalid_request_error", "Your credit balance is too low"), 529, "overloaded_error"),
        ],
    )
    @pytest.mark.parametrize("streamed_", [False, True])
    async def test_before_the_first_byte(
        self, place: ClaudePlace, script: Script, status: int, kind: str, streamed_: bool
    ) -> None:
        place.claude.by_model[OLDER] = script

        async with place.anthropic() as client:
            with pytest.raises(anthropic.APIStatusError) as refused_:
                await client.messages.create(model=OLDER, stream=streamed_, **ASKED)

        error = refused_.value
        body: Any = error.body
        assert (error.status_code, body["error"]["type"]) == (status, kind)
        assert error.request_id == body["request_id"]
        assert ANTHROPIC_KEY not in str(body)
        place.mend(OLDER)

    async def test_after_the_first_byte(self, place: ClaudePlace) -> None:
        frames = stream(message())
        for script in (
            streams([*frames[:5], error_event()]),
            breaks_off(5),
            streams(frames[:-1]),
            streams([*frames[:5], b"event: content_block_delta\ndata: {broken\n\n"]),
        ):
            place.claude.by_model[CLAUDE] = script
            before = await place.charged()

            async with place.anthropic() as client:
                opened = await client.messages.create(model=CLAUDE, stream=True, **ASKED)
                with pytest.raises(anthropic.APIStatusError) as raised:
                    async for _ in opened:
                        pass

            body: Any = raised.value.body
            assert body["type"] == "error"
            assert body["error"]["type"] in ("api_error", "overloaded_error")
            assert await place.charged() == before
            place.mend(CLAUDE)

    async def test_no_credit_names_the_way_to_more(self, place: ClaudePlace) -> None:
        key = await place.customer(None)

        async with place.anthropic(api_key=key) as client:
            with pytest.raises(anthropic.APIStatusError) as refused_:
                await client.messages.create(model=CLAUDE, **ASKED)

        body: Any = refused_.value.body
        assert refused_.value.status_code == 402
        assert body["error"]["type"] == "billing_error"
        assert body["error"]["details"]["error_code"] == "insufficient_credits"

    async def test_credit_that_ends_closes_the_open_block(self, place: ClaudePlace) -> None:
        """The frame at which it stops is complete: the client's helper reads a message that hit its limit."""
        told = message({"type": "text", "text": "word " * 40_000}, usage=fake.token_usage(40_000))
        place.claude.by_model[CLAUDE] = streams(stream(told))
        key = await place.customer("0.002")

        async with place.anthropic(api_key=key) as client, client.messages.stream(model=CLAUDE, **ASKED) as opened:
            answer = await opened.get_final_message()

        assert answer.stop_reason == "max_tokens"
        assert answer.content[0].type == "text"
        assert answer.usage.output_tokens > 0
        balance = await place.balance(key)
        assert nanos(balance["spendable_usd"]) >= 0

    async def test_unknown_models_and_wrong_turns(self, place: ClaudePlace) -> None:
        answer = await place.messages("acme/claude-opus-4-9")
        assert answer.status == 404
        assert answer.error["type"] == "not_found_error"
        assert CLAUDE in answer.error["message"]
        for path, hint in (("/messages", "lacks /v1"), ("/v1/v1/messages", "leave one")):
            answer = await place.messages(path=path)
            assert (answer.status, answer.json["type"]) == (404, "error")
            assert hint in answer.error["message"]


class TestOpenAIsVendor:
    """The same client, where the model's vendor speaks the other dialect."""

    async def test_a_whole_answer_and_a_stream(self, place: ClaudePlace) -> None:
        whole = await asked(place, OPENAI, system="Be brief.", stop_sequences=["END"], extra_body={"temperature": 0.5})
        kinds, added = await streamed(place, OPENAI)

        text = "".join(TEXT_PIECES)
        assert whole.content[0].type == added.content[0].type == "text"
        assert whole.content[0].text == added.content[0].text == text
        assert whole.stop_reason == added.stop_reason == "end_turn"
        assert (added.usage.input_tokens, added.usage.output_tokens) == (11, 6)
        assert whole.usage.model_extra == {"cost": (11 * 1_000 + 6 * 2_000) / 10**9}
        assert kinds[-1] == "message_stop"
        told = place.alpha.requests[0].json
        assert told["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (told["stop"], told["temperature"], told["max_tokens"]) == (["END"], 0.5, 2_000)
        await place.verify()

    @pytest.mark.parametrize("usage_at", ["as_asked", "finish", "every", "nowhere"])
    async def test_the_streams_last_event_has_the_cost(self, place: ClaudePlace, usage_at: UsageAt) -> None:
        place.alpha.by_model[OPENAI] = Script(reply=Reply(usage_at=usage_at))
        answer = await place.messages(OPENAI, stream=True)

        last = json.loads(answer.body.split(b"event: message_delta\ndata: ")[1].split(b"\n")[0])
        assert last["delta"]["stop_reason"] == "end_turn"
        assert last["usage"]["output_tokens"] == 6
        assert ("estimated" in last["usage"]) is (usage_at == "nowhere")
        input_tokens = last["usage"]["input_tokens"]
        assert input_tokens == 11 or usage_at == "nowhere"
        assert nanos(str(last["usage"]["cost"])) == input_tokens * 1_000 + 6 * 2_000

    async def test_tools_results_with_pictures_and_what_was_dropped(self, place: ClaudePlace) -> None:
        calls = (ToolCall(arguments='{"city":"Bern"}'), ToolCall(id="call_0002", arguments='{"city":"Zug"}'))
        place.alpha.by_model[OPENAI] = Script(reply=Reply(tool_calls=calls))
        whole = await asked(place, OPENAI, tools=[WEATHER])
        _, added = await streamed(place, OPENAI, tools=[WEATHER], tool_choice={"type": "any"})

        for answer in (whole, added):
            assert answer.stop_reason == "tool_use"
            assert [(b.type, b.id, b.input) for b in answer.content if b.type == "tool_use"] == [
                ("tool_use", "call_0001", {"city": "Bern"}),
                ("tool_use", "call_0002", {"city": "Zug"}),
            ]
        assert place.alpha.requests[-1].json["tool_choice"] == "required"
        del place.alpha.by_model[OPENAI]
        results = [
            {"type": "tool_result", "tool_use_id": "call_0001", "content": [{"type": "text", "text": "Fog"}, PICTURE]},
            {"type": "tool_result", "tool_use_id": "call_0002", "content": "Sun", "is_error": True},
        ]
        back = await asked(
            place,
            OPENAI,
            tools=[WEATHER],
            messages=[
                *HELLO,
                whole.to_param(),
                {"role": "user", "content": [*results, {"type": "text", "text": "So?"}]},
            ],
        )
        assert back.stop_reason == "end_turn"
        told = place.alpha.requests[-1].json["messages"]
        assert [turn["role"] for turn in told][:4] == ["user", "assistant", "tool", "tool"]
        assert PIXEL in json.dumps(told)

    async def test_reasoning_is_shown_as_thought(self, place: ClaudePlace) -> None:
        place.alpha.by_model[OPENAI] = Script(reply=Reply(reasoning=("Let", " me", " see")))

        whole = await asked(place, OPENAI, thinking={"type": "adaptive"})
        _, added = await streamed(place, OPENAI, thinking={"type": "adaptive"})

        for answer in (whole, added):
            assert answer.content[0].type == "thinking"
            assert answer.content[0].thinking == "Let me see"
            assert answer.content[1].type == "text"

    async def test_failures_before_and_after_the_first_byte(self, place: ClaudePlace) -> None:
        place.alpha.by_model[OPENAI] = bad_request("Invalid value")
        async with place.anthropic() as client:
            with pytest.raises(anthropic.BadRequestError):
                await client.messages.create(model=OPENAI, **ASKED)
            place.alpha.by_model[OPENAI] = error_in_stream("dict", 3)
            opened = await client.messages.create(model=OPENAI, stream=True, **ASKED)
            with pytest.raises(anthropic.APIStatusError):
                async for _ in opened:
                    pass
        place.mend(OPENAI)

    async def test_a_leaving_caller_hangs_up_on_the_vendor(self, place: ClaudePlace) -> None:
        place.alpha.by_model[OPENAI] = stalls(4)
        async with place.anthropic() as client:
            opened = await client.messages.create(model=OPENAI, stream=True, **ASKED)
            async for each in opened:
                if each.type == "content_block_delta":
                    break
            await opened.close()
        await place.alpha.wait_closed(0)
        await place.verify()

    async def test_credit_that_ends_closes_the_open_block(self, place: ClaudePlace) -> None:
        place.alpha.by_model[OPENAI] = Script(frames=chunks(["word " * 20] * 3_000))
        key = await place.customer("0.002")

        async with place.anthropic(api_key=key) as client, client.messages.stream(model=OPENAI, **ASKED) as opened:
            answer = await opened.get_final_message()

        assert answer.stop_reason == "max_tokens"
        assert answer.content[0].type == "text"
        assert answer.usage.output_tokens > 0
        assert nanos((await place.balance(key))["spendable_usd"]) >= 0

    async def test_tokens_are_estimated(self, place: ClaudePlace) -> None:
        async with place.anthropic() as client:
            counted = await client.messages.count_tokens(model=OPENAI, messages=HELLO)

        assert counted.input_tokens > 0
        assert counted.model_extra == {"estimated": True}
        assert place.alpha.requests == []


class TestSandbox:
    """What anybody can try without a vendor."""

    @pytest.mark.parametrize("model", ["echo", "reason", "tool", "no-usage", "no-done"])
    async def test_whole_and_streamed_are_the_same(self, place: ClaudePlace, model: str) -> None:
        whole = await asked(place, f"sandbox/{model}", tools=[WEATHER])
        kinds, added = await streamed(place, f"sandbox/{model}", tools=[WEATHER])

        assert kinds[-1] == "message_stop"
        assert whole.stop_reason == added.stop_reason == ("tool_use" if model == "tool" else "end_turn")
        assert [block.type for block in whole.content] == [block.type for block in added.content]
        assert whole.usage.output_tokens > 0
        if model == "reason":
            assert whole.content[0].type == "thinking"
        if model == "tool":
            assert whole.content[-1].type == "tool_use"
            assert whole.content[-1].name == "get_weather"

    @pytest.mark.parametrize("model", ["fail", "cut", "fail-after"])
    async def test_failures_are_told_in_the_dialect(self, place: ClaudePlace, model: str) -> None:
        for streams_ in (False, True):
            with pytest.raises(anthropic.APIStatusError) as raised:
                await (streamed if streams_ else asked)(place, f"sandbox/{model}")
            body: Any = raised.value.body
            assert body["type"] == "error"


class TestOpenAIsClient:
    """OpenAI's official client on a vendor of Anthropic's dialect."""

    async def test_whole_and_streamed(self, place: ClaudePlace) -> None:
        async with place.client() as client:
            whole = await client.chat.completions.create(
                model=CLAUDE,
                messages=[{"role": "system", "content": "Be brief."}, *HELLO],
                temperature=0.5,
                seed=7,
            )
            raw = await client.chat.completions.with_raw_response.create(
                model=CLAUDE, messages=HELLO, stream=True, stream_options={"include_usage": True}, seed=7
            )
            chunks = [chunk async for chunk in raw.parse()]

        assert whole.choices[0].message.content == fake.TEXT["text"]
        assert whole.choices[0].finish_reason == "stop"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == fake.TEXT["text"]
        assert chunks[-1].usage is not None
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 6)
        assert raw.headers["x-gatewayz-dropped-params"] == "seed"
        told = place.claude.requests[0].json
        assert told["system"] == "Be brief."
        assert "temperature" not in told
        assert told["max_tokens"] > 0
        await place.verify()

    async def test_names_of_dropped_members_stay_in_their_header(self, place: ClaudePlace) -> None:
        odd: dict[str, Any] = {f"evil\r\nx-{number}: 1, é": 1 for number in range(200)} | {"x" * 100_000: 1}

        answer = await place.chat(CLAUDE, seed=7, **odd)

        assert answer.status == 200
        named = answer.headers["x-gatewayz-dropped-params"]
        assert len(named) < 3_000
        assert "seed" in named.split(", ") or named.endswith(", ...")
        assert not any(name.startswith("x-0") for name in answer.headers)

    async def test_parallel_tools_and_their_results(self, place: ClaudePlace) -> None:
        place.claude.by_model[CLAUDE] = says(tool_use(), tool_use("toolu_02", city="Bern"))
        tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER["input_schema"]}}
        async with place.client() as client:
            answer = await client.chat.completions.create(model=CLAUDE, messages=HELLO, tools=[tool])
            calls = answer.choices[0].message.tool_calls or []
            results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "Fog"} for call in calls]
            del place.claude.by_model[CLAUDE]
            history: Any = [*HELLO, answer.choices[0].message.model_dump(exclude_none=True), *results]
            await client.chat.completions.create(model=CLAUDE, messages=history, tools=[tool])

        assert [json.loads(call.function.arguments) for call in calls if call.type == "function"] == [
            {"city": "Zürich"},
            {"city": "Bern"},
        ]
        told = sent(place)["messages"]
        assert [turn["role"] for turn in told] == ["user", "assistant", "user"]
        assert [block["tool_use_id"] for block in told[2]["content"]] == ["toolu_01", "toolu_02"]

    async def test_effort_becomes_what_the_model_knows(self, place: ClaudePlace) -> None:
        async with place.client() as client:
            await client.chat.completions.create(model=CLAUDE, messages=HELLO, reasoning_effort="high")
            newer = sent(place)
            await client.chat.completions.create(
                model=OLDER, messages=HELLO, reasoning_effort="high", max_completion_tokens=30_000
            )
            older = sent(place)

        assert newer["thinking"] == {"type": "adaptive"}
        assert newer["output_config"] == {"effort": "high"}
        assert older["thinking"] == {"type": "enabled", "budget_tokens": 16_384}
