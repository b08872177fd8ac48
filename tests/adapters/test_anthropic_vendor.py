"""A vendor that speaks Anthropic's dialect, as a value, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from adapters.dialects.anthropic.server import read_request
from adapters.transport.http import VendorHttp
from adapters.vendors.anthropic import AnthropicSpeaking, AnthropicVendor
from domain.catalog import Capability
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ListedModel
from tests.fakes.anthropic_upstream import COUNTED_TOKENS, AnthropicUpstream, message, overloaded, refused, stream
from tests.fakes.upstream import Script, encode, html

pytestmark = pytest.mark.anyio

KEY = "sk-ant-our-own-secret"


def call(headers: Mapping[str, str] | None = None, **members: Any) -> ChatCall:
    sent = {"model": "acme/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | members
    request = replace(read_request(encode(sent)), headers=headers or {})
    return ChatCall(request=request, vendor_model="claude-m", first_byte_s=5)


@asynccontextmanager
async def vendor(upstream: AnthropicUpstream, **members: Any) -> AsyncIterator[AnthropicVendor]:
    value = AnthropicSpeaking(**{"slug": "acme", "base_url": upstream.base_url} | members)
    made = AnthropicVendor(value, value.base_url, KEY, VendorHttp("acme", secrets=(KEY,)))
    yield made
    await made.aclose()


async def test_its_address_is_found_with_and_without_the_version() -> None:
    async with AnthropicUpstream() as upstream:
        for base_url in (upstream.base_url, f"{upstream.base_url}/", f"{upstream.base_url}/v1"):
            async with vendor(upstream, base_url=base_url) as acme:
                answer = await acme.complete(call())
                assert answer.finish_reason == "end_turn"
        assert {request.path for request in upstream.requests} == {"/v1/messages"}


async def test_headers() -> None:
    async with AnthropicUpstream() as upstream:
        async with vendor(upstream, headers={"x-extra": "1"}) as acme:
            answer = await acme.complete(call({"anthropic-beta": "a,b", "cookie": "no"}))
            await acme.complete(call({"anthropic-version": "2026-10-21"}))
        async with vendor(upstream, bearer=True) as imitation:
            await imitation.complete(call())

        first, second, third = (request.headers for request in upstream.requests)
        assert (first["x-api-key"], first["anthropic-version"]) == (KEY, "2023-06-01")
        assert (first["anthropic-beta"], first["x-extra"]) == ("a,b", "1")
        assert "cookie" not in first
        assert "authorization" not in first
        assert second["anthropic-version"] == "2026-10-21"
        assert "anthropic-beta" not in second
        assert third["authorization"] == f"Bearer {KEY}"
        assert answer.headers == {"x-gatewayz-vendor-request-id": "req_fake"}


async def test_a_stream_is_one_or_a_fault() -> None:
    async with AnthropicUpstream() as upstream, vendor(upstream) as acme:
        streaming = await acme.stream(call(stream=True))
        passed = b"".join([piece async for piece in streaming])
        streaming.close()
        assert passed == b"".join(stream(message(model="claude-m")))

        upstream.script(Script(json_body={"type": "error", "error": {"type": "overloaded_error", "message": "x"}}))
        with pytest.raises(VendorFault) as told:
            await acme.stream(call(stream=True))
        assert told.value.kind is FaultKind.OVERLOADED
        for script in (html(), Script(body=b"")):
            upstream.script(script)
            with pytest.raises(VendorFault):
                await acme.stream(call(stream=True))


async def test_our_key_goes_into_no_message() -> None:
    async with AnthropicUpstream() as upstream, vendor(upstream) as acme:
        for act in (acme.complete, acme.stream, acme.count_input):
            upstream.script(refused(401, "authentication_error", f"invalid x-api-key {KEY}"))
            with pytest.raises(VendorFault) as rejected:
                await act(call())
            assert rejected.value.kind is FaultKind.CREDENTIAL_REJECTED
            assert KEY not in str(rejected.value.message)


async def test_tokens_are_counted() -> None:
    async with AnthropicUpstream() as upstream, vendor(upstream) as acme:
        assert await acme.count_input(call()) == COUNTED_TOKENS
        upstream.script(Script(json_body={"tokens": 1}))
        with pytest.raises(VendorFault):
            await acme.count_input(call())
        upstream.script(overloaded())
        with pytest.raises(VendorFault) as told:
            await acme.count_input(call())
        assert told.value.kind is FaultKind.OVERLOADED


async def test_all_pages_of_its_models_are_read() -> None:
    models = [f"claude-{number}" for number in range(7)]
    async with AnthropicUpstream(models=[*models, "claude-old"], page=3) as upstream, vendor(upstream) as acme:
        listed = await acme.list_models()

        assert [each.vendor_model for each in listed] == [*models, "claude-old"]
        assert listed[0] == ListedModel(
            vendor_model="claude-0",
            name="Claude 0",
            context_length=200_000,
            output_max=64_000,
            created_s=1_770_163_200,
            capabilities=frozenset(
                {
                    Capability.STREAM,
                    Capability.TOOLS,
                    Capability.IMAGES_IN,
                    Capability.FILES_IN,
                    Capability.REASONING,
                }
            ),
        )
        assert listed[-1].retires_s == 1_799_971_200
        assert [request.path for request in upstream.requests] == [
            "/v1/models?limit=1000",
            "/v1/models?limit=1000&after_id=claude-2",
            "/v1/models?limit=1000&after_id=claude-5",
        ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"data":[{"id":"m"},{"id":""},{"id":"gone","lifecycle":"retired"}]}', ["m"]),
        (b'{"data":[{"id":"m","created_at":"soon","max_tokens":"many","capabilities":[]}],"has_more":true}', ["m"]),
        (b'{"object":"list","data":[{"id":"m","created":1}]}', ["m"]),
    ],
)
async def test_lists_of_imitations_are_read_as_far_as_they_go(body: bytes, found: list[str]) -> None:
    async with AnthropicUpstream() as upstream, vendor(upstream) as acme:
        upstream.by_path["/v1/models"] = Script(body=body)
        listed = await acme.list_models()
        assert [each.vendor_model for each in listed][:1] == found
        assert listed[0].capabilities is None


async def test_a_list_that_cannot_be_read_is_a_fault() -> None:
    async with AnthropicUpstream() as upstream, vendor(upstream) as acme:
        for script in (html(), refused(401, "authentication_error"), Script(body=b"")):
            upstream.by_path["/v1/models"] = script
            with pytest.raises(VendorFault):
                await acme.list_models()
