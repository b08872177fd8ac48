"""Vertex AI: where things are, whose words a model speaks, and pictures of a model that was deployed there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.callers import CALLERS
from adapters.dialects.openai_chat.server import read_request
from adapters.dialects.openai_tasks.register import TASKS
from adapters.transport.google_auth import GoogleTokens, read_credential
from adapters.transport.http import VendorHttp
from adapters.vendors.vertex import VertexPlace, VertexVendor, host_of, publisher_of
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import VendorFault
from tests.fakes import gemini_upstream as gemini
from tests.fakes.gemini_upstream import VertexUpstream
from tests.fakes.time import FakeClock


def test_the_three_forms_of_the_address() -> None:
    assert host_of("europe-west4") == "https://europe-west4-aiplatform.googleapis.com"
    assert host_of("global") == "https://aiplatform.googleapis.com"
    assert host_of("eu") == "https://aiplatform.eu.rep.googleapis.com"


@pytest.mark.parametrize(
    ("vendor_model", "publisher", "name"),
    [
        ("publishers/google/models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("anthropic/claude-opus-4-5@20251101", "anthropic", "claude-opus-4-5@20251101"),
        ("claude-opus-4-8", "anthropic", "claude-opus-4-8"),
        ("gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("meta/llama-4", "meta", "llama-4"),
    ],
)
def test_publishers(vendor_model: str, publisher: str, name: str) -> None:
    assert publisher_of(vendor_model) == (publisher, name)


@pytest.mark.anyio
async def test_every_kind_of_model_is_spoken_to_in_its_own_words() -> None:
    async with VertexUpstream() as upstream:
        http = VendorHttp("vertex")
        tokens = GoogleTokens(read_credential(json.dumps(upstream.credential)).source, http, FakeClock())
        place = VertexPlace(project=upstream.PROJECT, location="eu", base_url=upstream.base_url)
        vendor = VertexVendor(place, tokens, http, CALLERS, ("endpoints/42", "anthropic/claude-opus-4-5@20251101"))
        folder = f"/v1/projects/{upstream.PROJECT}/locations/eu"
        chat = read_request(b'{"model":"a/b","max_completion_tokens":9,"messages":[{"role":"user","content":"hi"}]}')

        async def path(vendor_model: str, request: Any = chat) -> str:
            await vendor.complete(ChatCall(request=request, vendor_model=vendor_model, first_byte_s=5, id="r1"))
            return str(upstream.requests[-1].path)

        assert await path("gemini-2.5-pro") == f"{folder}/publishers/google/models/gemini-2.5-pro:generateContent"
        claude = f"{folder}/publishers/anthropic/models/claude-opus-4-5@20251101:rawPredict"
        assert await path("anthropic/claude-opus-4-5@20251101") == claude
        assert await path("meta/llama-4") == f"{folder}/endpoints/openapi/chat/completions"
        assert upstream.requests[-1].json["model"] == "meta/llama-4"
        assert upstream.requests[-1].json["max_tokens"] == 9

        draw = TASKS[Dialect.OPENAI_IMAGES].read_request(b'{"model":"a/b","prompt":"A cat","size":"512x256"}')
        assert await path("endpoints/42", draw) == f"{folder}/endpoints/42:predict"
        assert upstream.requests[-1].json["parameters"] == {"width": 512, "height": 256}
        answer = await vendor.complete(ChatCall(request=draw, vendor_model="endpoints/42", first_byte_s=5))
        assert json.loads(answer.body)["data"] == [{"b64_json": gemini.PNG}]
        assert answer.usage is not None
        assert answer.usage.images == 1
        with pytest.raises(VendorFault):
            await path("endpoints/42")

        listed = {model.vendor_model: model.canonical for model in await vendor.list_models()}
        assert listed["anthropic/claude-opus-4-5@20251101"] == "anthropic/claude-opus-4-5"
        assert f"publishers/google/models/{gemini.MODEL}" in listed
        await http.close()
