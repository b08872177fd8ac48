"""One suite over every vendor that speaks OpenAI's dialect, each in its true shapes over a real socket.

`pytest -s tests/contracts/test_vendors.py` prints the table of vendors and cases at its end.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from adapters.dialects.openai_chat.server import read_request
from adapters.transport.http import VendorHttp
from adapters.vendors.openai_compatible import OpenAICompatible, OpenAICompatibleVendor
from adapters.vendors.register import OPENAI_COMPATIBLE
from domain.catalog import Capability
from domain.errors import UnsupportedParameter
from domain.ids import ModelId, PriceId, VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Image, Inline, Role, Text, Thinking, ToolCall, Turn
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import Finish, Reply, gathered
from domain.money import Usd
from domain.ports.vendors import ChatStream
from domain.pricing import Price, PriceSource
from tests.fakes.time import NOON
from tests.fakes.upstream import Break, Frame, Request, Script, Upstream
from tests.fakes.vendor_shapes import CALLS, SAID, SHAPES, THOUGHT, Refusal, Shape, openai_error

pytestmark = pytest.mark.anyio

KEY = "sk-our-own-secret"
PNG = base64.b64encode(b"\x89PNG\r\n").decode()
CASES = ("whole", "stream", "tools", "reasoning", "images in", "usage", "errors", "models list", "disconnect")
vendors = pytest.mark.parametrize("vendor", OPENAI_COMPATIBLE, ids=lambda vendor: vendor.slug)
TABLE: dict[tuple[str, str], bool] = {}


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    width = max(len(vendor.slug) for vendor in OPENAI_COMPATIBLE)
    lines = [" | ".join((f"{'vendor':{width}}", *CASES))]
    for vendor in OPENAI_COMPATIBLE:
        marks = ("pass" if TABLE.get((vendor.slug, case)) else "FAIL" for case in CASES)
        cells = (f"{mark:{len(case)}}" for mark, case in zip(marks, CASES, strict=True))
        lines.append(" | ".join((f"{vendor.slug:{width}}", *cells)))
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def passed(vendor: OpenAICompatible, case: str) -> None:
    TABLE[vendor.slug, case] = True


def at(vendor: OpenAICompatible, upstream: Upstream) -> OpenAICompatibleVendor:
    """The vendor at the fake's address, under the path that it has in the world."""
    path = urlsplit(vendor.base_url).path
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(upstream.base_url))
    return OpenAICompatibleVendor(vendor, f"{origin}{path}", KEY, VendorHttp(vendor.slug, secrets=(KEY,)))


def call(**members: object) -> ChatCall:
    body = {"model": "acme/m", "messages": [{"role": "user", "content": "hi"}], **members}
    return ChatCall(request=read_request(json.dumps(body).encode()), vendor_model="m", first_byte_s=5, id="r1")


def streamed(shape: Shape, frames: Sequence[Frame], **more: Any) -> Script:
    return Script(frames=list(frames), done=shape.done, comment=shape.comment, **more)


def whole(shape: Shape, answer: object) -> Script:
    body = json.dumps(answer).encode()
    return Script(body=b"\n\n\n" + body if shape.blank_lines_first else body)


async def text_of(native: OpenAICompatibleVendor, shape: Shape, frames: Sequence[Frame], upstream: Upstream) -> Reply:
    """A stream as the caller of another dialect would be told it."""
    upstream.script(streamed(shape, frames))
    stream = await native.stream(call(stream=True))
    reader = native.wire.codec.reply_reader()
    events = [event for piece in await drained(stream) for event in reader.feed(piece)]
    return gathered([*events, *reader.end()])


def test_every_vendor_has_its_shapes() -> None:
    assert {vendor.slug for vendor in OPENAI_COMPATIBLE} == set(SHAPES)


@vendors
async def test_whole(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        answer = shape.answer({"content": SAID})
        upstream.script(whole(shape, answer))

        told = await native.complete(call(temperature=0.5))

        assert json.loads(told.body) == answer
        assert told.usage == shape.counted
        request = upstream.requests[0]
        assert request.path == f"{urlsplit(vendor.base_url).path}/chat/completions"
        assert request.headers[vendor.key_header.lower()] == f"{vendor.key_prefix}{KEY}"
        assert request.json["model"] == "m"
        assert request.json["temperature"] == 0.5
        for name, value in vendor.headers.items():
            assert request.headers[name.lower()] == value
        await native.aclose()
    passed(vendor, "whole")


@vendors
async def test_stream(vendor: OpenAICompatible) -> None:
    """Bytes pass as they came; what the vendor leaves out, the end of the stream, is added."""
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(streamed(shape, shape.stream([{"role": "assistant", "content": ""}, {"content": SAID}])))

        stream = await native.stream(call(stream=True, stream_options={"include_usage": True}))
        passed_on = b"".join(await drained(stream))

        assert passed_on.endswith(b"data: [DONE]\n\n")
        assert passed_on.count(b"[DONE]") == 1
        assert json.dumps(SAID).encode() in passed_on
        assert stream.started
        assert stream.finish_reason == shape.finish
        upstream.script(streamed(shape, shape.stream([{"content": SAID}])))
        asked = upstream.requests
        unasked = await native.stream(call(stream=True))
        await drained(unasked)
        assert ("stream_options" in asked[1].json) == vendor.asks_for_usage
        # So does a request of another dialect, whose answer always tells its usage.
        said = Conversation(turns=(Turn(role=Role.USER, blocks=(Text(text="hi"),)),))
        written = native.wire.codec.write_conversation(said, call(stream=True))
        assert json.loads(written.body).get("stream_options") == asked[1].json.get("stream_options")
        assert not vendor.dropped_fields & json.loads(written.body).keys()
        await native.aclose()
    passed(vendor, "stream")


@vendors
async def test_tools(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(whole(shape, shape.answer(shape.tool_message(), "tool_calls")))
        answer = await native.complete(call())

        replies = [
            native.wire.codec.read_reply(answer.body),
            await text_of(native, shape, shape.stream(shape.tool_deltas(), "tool_calls"), upstream),
        ]

        for reply in replies:
            calls = [block for block in reply.blocks if isinstance(block, ToolCall)]
            assert [(each.name, json.loads(each.arguments)) for each in calls] == [
                (name, json.loads(arguments)) for _, name, arguments in CALLS
            ]
            assert reply.finish is Finish.TOOL
            assert len({each.id for each in calls}) == len(CALLS)
            if shape.tools != "no_id":
                assert [each.id for each in calls] == [id_ for id_, _, _ in CALLS]
        await native.aclose()
    passed(vendor, "tools")


@vendors
async def test_reasoning(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(whole(shape, shape.answer(shape.thinking_message())))
        answer = await native.complete(call())

        replies = [
            native.wire.codec.read_reply(answer.body),
            await text_of(native, shape, shape.stream(shape.thinking_deltas()), upstream),
        ]

        for reply in replies:
            thoughts = [block for block in reply.blocks if isinstance(block, Thinking)]
            assert "".join(block.text for block in thoughts) == ("" if shape.reasoning == "none" else THOUGHT)
            assert "".join(block.text for block in reply.blocks if isinstance(block, Text)) == SAID
            assert reply.finish is Finish.END
            sealed = [block.sealed for block in thoughts if block.sealed]
            assert bool(sealed) == (shape.reasoning == "details")
            if sealed:
                again = Conversation(turns=(Turn(role=Role.ASSISTANT, blocks=tuple(thoughts)),))
                sent = json.loads(native.wire.codec.write_conversation(again, call()).body)["messages"][0]
                assert sent["reasoning_details"][0]["text"] == THOUGHT
                assert sent["reasoning_details"][0]["signature"] == "c2ln"
        await native.aclose()
    passed(vendor, "reasoning")


@vendors
async def test_images_in(vendor: OpenAICompatible) -> None:
    """Passed on as they are, and written from another dialect's blocks."""
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        content = [{"type": "text", "text": "What is it?"}, picture]
        asked = call(messages=[{"role": "user", "content": content}])
        blocks = (Text(text="What is it?"), Image(source=Inline("image/png", PNG)))
        said = Conversation(turns=(Turn(role=Role.USER, blocks=blocks),))
        written = native.wire.codec.write_conversation(said, asked)
        translated = msgspec.structs.replace(asked, request=read_request(written.body))

        for each in (asked, translated):
            upstream.script(whole(shape, shape.answer({"content": SAID})))
            await native.complete(each)

        assert [request.json["messages"][0]["content"] for request in upstream.requests] == [content, content]
        assert written.dropped == ()
        await native.aclose()
    passed(vendor, "images in")


@vendors
async def test_usage(vendor: OpenAICompatible) -> None:
    """Whole and streamed the same, and to the nano-dollar what the vendor itself would charge."""
    shape = SHAPES[vendor.slug]
    price = Price(
        id=PriceId("p"),
        vendor=VendorSlug(vendor.slug),
        model=ModelId("m"),
        rates=shape.rates,
        valid_from=NOON,
        source=PriceSource.VENDOR,
    )
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(whole(shape, shape.answer({"content": SAID})))
        answer = await native.complete(call())
        upstream.script(streamed(shape, shape.stream([{"content": "The sum "}, {"content": "is 42."}])))
        stream = await native.stream(call(stream=True))
        await drained(stream)

        for told in (answer, stream):
            assert told.usage == shape.counted
            assert price.cost(told.usage) == Usd(shape.cost_nanos)
            assert told.vendor_cost == (None if shape.told_nanos is None else Usd(shape.told_nanos))
        await native.aclose()
    passed(vendor, "usage")


async def drained(stream: ChatStream) -> list[bytes]:
    """What came of it, until it ends or fails; then hung up."""
    pieces: list[bytes] = []
    try:
        async for piece in stream:
            pieces.append(piece)
    except VendorFault as fault:
        fault.add_note(b"".join(pieces).decode())
        raise
    finally:
        stream.close()
    return pieces


async def answered(native: OpenAICompatibleVendor, asked: ChatCall) -> None:
    if asked.request.streamed:
        await drained(await native.stream(asked))
    else:
        await native.complete(asked)


@vendors
async def test_errors(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    assert shape.refusals
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        for refusal in shape.refusals:
            for stream in (False, True):
                upstream.script(_refused(refusal))
                with pytest.raises(VendorFault) as refused:
                    await answered(native, call(stream=stream))
                fault = refused.value
                assert (fault.kind, fault.retry_after_s) == (refusal.kind, refusal.retry_after_s), refusal
                assert fault.message
                assert KEY not in fault.message
        event: Any = shape.stream_error or openai_error("The server had an error", "server_error")
        said = [{"role": "assistant", "content": ""}, {"content": SAID}]
        upstream.script(streamed(shape, [*shape.stream(said)[:2], event]))
        with pytest.raises(VendorFault) as broken:
            await drained(await native.stream(call(stream=True)))
        assert broken.value.kind is shape.stream_error_kind
        came = "".join(broken.value.__notes__)
        assert json.dumps(SAID) in came
        assert "[DONE]" not in came
        await native.aclose()
    passed(vendor, "errors")


def _refused(refusal: Refusal) -> Script:
    body = json.dumps(refusal.body).replace("Invalid API key", f"Invalid API key {KEY}").encode()
    return Script(status=refusal.status, headers=refusal.headers, body=body)


@vendors
async def test_models_list(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]

    def page(request: Request) -> Script:
        return Script(json_body=shape.models[request.path])

    async with Upstream() as upstream:
        native = at(vendor, upstream)
        for path in shape.models:
            upstream.by_path[path.partition("?")[0]] = page
        listed = {model.vendor_model: model for model in await native.list_models()}

        assert [request.path for request in upstream.requests] == list(shape.models)
        for wanted in shape.listed:
            model = listed[wanted.id]
            assert model.context_length == wanted.context
            rates = (model.rates.input, model.rates.output) if model.rates else (None, None)
            assert rates == (wanted.input, wanted.output), model.price_doubt
            tools = None if model.capabilities is None else Capability.TOOLS in model.capabilities
            assert tools == wanted.tools
        upstream.by_path = {path.partition("?")[0]: Script(status=401, body=b"{}") for path in shape.models}
        with pytest.raises(VendorFault) as raised:
            await native.list_models()
        assert raised.value.kind is FaultKind.CREDENTIAL_REJECTED
        await native.aclose()
    passed(vendor, "models list")


@vendors
async def test_disconnect(vendor: OpenAICompatible) -> None:
    """Hanging up in the middle ends the vendor's work at once, and what came is counted."""
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        frames = shape.stream([{"content": f"word{number} "} for number in range(20)])
        upstream.script(streamed(shape, frames, breaks=Break(how="stall", after_frames=10)))

        stream = await native.stream(call(stream=True))
        async for _ in stream:
            if stream.produced_tokens() >= 10:
                break
        stream.close()

        await upstream.wait_closed(0, timeout_s=5)
        assert stream.produced_tokens() == 10
        await native.aclose()
    passed(vendor, "disconnect")


# What a vendor does not take


@pytest.mark.parametrize("vendor", [each for each in OPENAI_COMPATIBLE if each.dropped_fields], ids=lambda v: v.slug)
async def test_what_a_vendor_refuses_is_dropped_and_named(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(whole(shape, shape.answer({"content": SAID})))
        asked: dict[str, object] = {**dict.fromkeys(vendor.dropped_fields, 1), "stream_options": {}}
        answer = await native.complete(call(**{name: asked[name] for name in vendor.dropped_fields}))
        assert answer.headers["x-gatewayz-dropped-params"].split(", ") == sorted(vendor.dropped_fields)
        assert not vendor.dropped_fields & upstream.requests[0].json.keys()
        await native.aclose()


@pytest.mark.parametrize("vendor", [each for each in OPENAI_COMPATIBLE if each.renamed_fields], ids=lambda v: v.slug)
async def test_renamed_fields_keep_their_value(vendor: OpenAICompatible) -> None:
    shape = SHAPES[vendor.slug]
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        for members in ({}, {"max_tokens": 9}):
            upstream.script(whole(shape, shape.answer({"content": SAID})))
            await native.complete(call(**dict.fromkeys(vendor.renamed_fields, 7), **members))
            body = upstream.requests[-1].body
            sent = json.loads(body)
            assert {theirs: sent[theirs] for theirs in vendor.renamed_fields.values()} == dict.fromkeys(
                vendor.renamed_fields.values(), 7
            )
            assert not vendor.renamed_fields.keys() & sent.keys()
            assert body.count(b'"max_tokens"') == 1
        await native.aclose()


async def test_more_answers_than_a_vendor_gives_are_refused_before_it_is_asked() -> None:
    groq = next(vendor for vendor in OPENAI_COMPATIBLE if vendor.answers_max == 1)
    async with Upstream() as upstream:
        with pytest.raises(UnsupportedParameter) as refused:
            await at(groq, upstream).complete(call(n=2))
        assert refused.value.param == "n"
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("slug", "name", "asked", "sent"),
    [
        ("together", "stop", "END", ["END"]),
        ("together", "stop", ["A"], ["A"]),
        ("mistral", "tool_choice", "required", "any"),
        ("mistral", "tool_choice", "auto", "auto"),
    ],
)
async def test_values_that_a_vendor_wants_in_another_form(slug: str, name: str, asked: object, sent: object) -> None:
    vendor = next(each for each in OPENAI_COMPATIBLE if each.slug == slug)
    async with Upstream() as upstream:
        native = at(vendor, upstream)
        upstream.script(whole(SHAPES[slug], SHAPES[slug].answer({"content": SAID})))
        await native.complete(call(**{name: asked}))
        assert upstream.requests[0].json[name] == sent
        await native.aclose()
