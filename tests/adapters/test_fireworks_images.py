"""Fireworks' images are asked for by path and answered in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from adapters.dialects.openai_tasks.images import IMAGES
from adapters.transport.http import VendorHttp
from adapters.vendors.fireworks_images import FireworksImages
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault

pytestmark = pytest.mark.anyio

MODEL = "accounts/fireworks/models/flux-1-schnell-fp8"


@dataclass
class Drawer:
    vendor: FireworksImages
    answer: Any = field(default_factory=lambda: {"base64": ["QQ=="], "finishReason": "SUCCESS"})
    status: int = 200
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def drawer() -> AsyncIterator[Drawer]:
    served: list[Drawer] = []
    app = web.Application()

    async def serve(request: web.Request) -> web.Response:
        return await served[0].serve(request)

    app.router.add_post("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    http = VendorHttp("fireworks", secrets=("fw-secret",))
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/inference/v1"
    credentials = {"Authorization": "Bearer fw-secret"}
    served.append(Drawer(FireworksImages(VendorSlug("fireworks"), base_url, lambda: credentials, http)))
    yield served[0]
    await http.close()
    await runner.cleanup()


def call(**members: Any) -> ChatCall:
    body = json.dumps({"model": "acme/flux", "prompt": "A fox", **members}).encode()
    return ChatCall(request=IMAGES.read_request(body), vendor_model=MODEL, id="r1", at_s=7)


async def test_an_image(drawer: Drawer) -> None:
    answer = await drawer.vendor.complete(call(size="1024x1024", quality="high", response_format="b64_json", seed=3))

    assert json.loads(answer.body) == {"created": 7, "data": [{"b64_json": "QQ=="}]}
    assert answer.usage is not None
    assert answer.usage.images == 1
    assert answer.headers == {"x-gatewayz-dropped-params": "quality"}
    [(path, headers, sent)] = drawer.requests
    assert path == f"/inference/v1/workflows/{MODEL}/text_to_image"
    assert sent == {"prompt": "A fox", "aspect_ratio": "1:1", "seed": 3}
    assert headers["Accept"] == "application/json"


async def test_several_images_are_refused_before_any_is_drawn(drawer: Drawer) -> None:
    with pytest.raises(UnsupportedParameter):
        await drawer.vendor.complete(call(n=2))
    assert not drawer.requests


async def test_its_failures(drawer: Drawer) -> None:
    drawer.status, drawer.answer = 401, {"error": {"message": "the key fw-secret is not known"}}
    with pytest.raises(VendorFault) as raised:
        await drawer.vendor.complete(call())
    assert raised.value.kind is FaultKind.CREDENTIAL_REJECTED
    assert "fw-secret" not in raised.value.message
    drawer.status, drawer.answer = 200, {"base64": []}
    with pytest.raises(VendorFault, match="no image"):
        await drawer.vendor.complete(call())
