"""A vendor that speaks OpenAI's dialect, as a value, over a real socket."""

from __future__ import annotations

import json

import pytest

from adapters.dialects.openai_chat.server import read_request
from adapters.transport.http import VendorHttp
from adapters.vendors.listings import ModelsList, per_unit
from adapters.vendors.openai_compatible import OpenAICompatible, OpenAICompatibleVendor
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from tests.fakes.upstream import Script, Upstream, html, unauthorized

pytestmark = pytest.mark.anyio

KEY = "sk-our-own-secret"


def call(**members: object) -> ChatCall:
    body = {"model": "acme/m", "messages": [{"role": "user", "content": "hi"}], **members}
    return ChatCall(request=read_request(json.dumps(body).encode()), vendor_model="m", first_byte_s=5)


async def test_what_a_vendor_does_not_take_is_left_out_and_named() -> None:
    async with Upstream() as upstream:
        value = OpenAICompatible(slug="acme", base_url=upstream.base_url, dropped_fields=frozenset({"seed", "user"}))
        vendor = OpenAICompatibleVendor(value, upstream.base_url, KEY, VendorHttp("acme"))

        answer = await vendor.complete(call(seed=1, temperature=0.5))

        assert answer.headers["x-gatewayz-dropped-params"] == "seed"
        assert "seed" not in upstream.requests[0].json
        assert upstream.requests[0].json["temperature"] == 0.5
        await vendor.aclose()


async def test_a_renamed_field_keeps_its_value() -> None:
    async with Upstream() as upstream:
        value = OpenAICompatible(slug="acme", base_url=upstream.base_url, renamed_fields={"seed": "random_seed"})
        vendor = OpenAICompatibleVendor(value, upstream.base_url, KEY, VendorHttp("acme"))

        answer = await vendor.complete(call(seed=12345678901234567890))

        assert upstream.requests[0].body.endswith(b'"random_seed":12345678901234567890}')
        assert "x-gatewayz-dropped-params" not in answer.headers
        await vendor.aclose()


async def test_our_key_goes_to_the_vendor_and_into_no_message() -> None:
    async with Upstream() as upstream:
        upstream.script(unauthorized(), html())
        http = VendorHttp("acme", secrets=(KEY,))
        vendor = OpenAICompatibleVendor(
            OpenAICompatible(slug="acme", base_url=upstream.base_url), upstream.base_url, KEY, http
        )

        with pytest.raises(VendorFault) as rejected:
            await vendor.complete(call())
        with pytest.raises(VendorFault) as page:
            await vendor.complete(call())

        assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert rejected.value.kind is FaultKind.CREDENTIAL_REJECTED
        assert KEY not in rejected.value.message
        assert page.value.kind is FaultKind.MALFORMED
        await vendor.aclose()


async def test_what_would_make_another_answer_is_refused_with_what_to_do_instead() -> None:
    async with Upstream() as upstream:
        value = OpenAICompatible(
            slug="acme", base_url=upstream.base_url, refused_fields={"prediction": "leave it out or use another model."}
        )
        vendor = OpenAICompatibleVendor(value, upstream.base_url, KEY, VendorHttp("acme"))

        with pytest.raises(UnsupportedParameter, match="leave it out") as refused:
            await vendor.complete(call(prediction={}))

        assert refused.value.param == "prediction"
        assert upstream.requests == []
        assert "prediction" in value.traits.unsupported
        await vendor.complete(call(seed=1))
        await vendor.aclose()


async def test_one_list_has_each_model_once_and_the_row_with_a_price() -> None:
    rows = [{"id": "m", "pricing": {}}, {"id": "m", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}]
    async with Upstream() as upstream:
        upstream.by_path["/v1/models"] = Script(json_body={"data": [*rows, {"id": "n"}]})
        value = OpenAICompatible(slug="acme", base_url=upstream.base_url, models=ModelsList(price=per_unit))
        vendor = OpenAICompatibleVendor(value, upstream.base_url, KEY, VendorHttp("acme"))

        models = await vendor.list_models()

        assert [(model.vendor_model, model.rates is not None) for model in models] == [("m", True), ("n", False)]
        await vendor.aclose()


async def test_our_key_is_taken_out_of_an_error_in_a_stream() -> None:
    async with Upstream() as upstream:
        value = OpenAICompatible(slug="acme", base_url=upstream.base_url)
        vendor = OpenAICompatibleVendor(value, upstream.base_url, KEY, VendorHttp("acme", secrets=(KEY,)))
        upstream.script(Script(frames=[{"error": {"message": f"Bad key {KEY}"}}]))

        stream = await vendor.stream(call(stream=True))
        with pytest.raises(VendorFault) as raised:
            [piece async for piece in stream]
        stream.close()

        assert raised.value.message == "Bad key ***"
        await vendor.aclose()
