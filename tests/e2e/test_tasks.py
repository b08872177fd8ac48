"""Embeddings, images, speech, transcriptions, reranking and moderation through a real gateway: same door, own units."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from tests.adapters.test_multipart import form
from tests.adapters.test_openai_tasks import wav
from tests.e2e.conftest import WIDE_LIMITS, Place, beside
from tests.e2e.processes import GatewayProcess
from tests.fakes.task_upstream import PIXEL, SOUND, TaskUpstream
from tests.fakes.upstream import Upstream

pytestmark = pytest.mark.anyio


def usd(text: str) -> int:
    return Usd.parse(text).nanos


PIECE = 1_000_000
"""Rates of what is counted by the piece are per million pieces."""
RATES = {
    "tasks/embed": Rates(input=usd("0.10"), output=0),
    "tasks/draw": Rates(input=usd("5"), output=0, image_in=usd("8"), image_out=usd("30")),
    "tasks/draw-by-piece": Rates(input=0, output=0, image_out=0, images=usd("0.04") * PIECE),
    "tasks/speak": Rates(input=0, output=0, audio_out=0, characters=usd("15")),
    "tasks/speak-by-token": Rates(input=usd("0.60"), output=0, audio_out=usd("12")),
    "tasks/write": Rates(input=0, output=0, audio_in=0, seconds=usd("0.0001") * PIECE),
    "tasks/rank": Rates(input=0, output=0, searches=usd("0.002") * PIECE),
    "tasks/judge": Rates(input=0, output=0),
}


@dataclass
class Tasks:
    place: Place
    vendor: TaskUpstream
    key: str

    @property
    def client(self) -> openai.AsyncOpenAI:
        return self.place.client(api_key=self.key)

    async def post(self, path: str, **members: Any) -> httpx.Response:
        return await self.place.http.post(path, json=members, headers={"Authorization": f"Bearer {self.key}"})

    async def charged(self) -> int:
        """Nano-dollars."""
        await self.place.nothing_held()
        return await self.place.charged(self.key)


@pytest.fixture(scope="module")
async def module_tasks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Place, TaskUpstream]]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    async with TaskUpstream() as vendor, Upstream() as idle:
        models = [model.removeprefix("tasks/") for model in RATES]
        row = {"slug": "tasks", "base_url": vendor.base_url, "wire": "openai", "api_key": "sk-tasks", "models": models}
        gateway = GatewayProcess(directory, **WIDE_LIMITS, GATEWAYZ_VENDORS=json.dumps([row]))
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            await to_thread.run_sync(gateway.start)
            try:
                await _set_prices(gateway)
                place = Place(gateway, idle, idle, http)
                await _priced(place)
                yield place, vendor
            finally:
                await to_thread.run_sync(gateway.stop)


@pytest.fixture
async def tasks(module_tasks: tuple[Place, TaskUpstream]) -> AsyncIterator[Tasks]:
    place, vendor = module_tasks
    vendor.requests.clear()
    vendor.fails.clear()
    logged = len(place.log())
    yield Tasks(place, vendor, await place.customer("10"))
    await place.verify()
    assert "Traceback" not in place.log()[logged:], "an unforeseen error is in the gateway's log"


async def _set_prices(gateway: GatewayProcess) -> None:
    async with beside(gateway) as container:
        for model, rates in RATES.items():
            await container.adapters.prices().add(
                Price(
                    id=PriceId(f"test:{model}"),
                    vendor=VendorSlug("tasks"),
                    model=ModelId(model),
                    rates=rates,
                    valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                    source=PriceSource.OPERATOR,
                    free=rates.is_zero,
                )
            )


async def _priced(place: Place) -> None:
    deadline = time.monotonic() + 15
    while True:
        listed = {model["id"] for model in (await place.get("/v1/models?limit=100"))["data"]}
        if set(RATES) <= listed:
            return
        assert time.monotonic() < deadline, listed
        await asyncio.sleep(0.1)


async def test_embeddings(tasks: Tasks) -> None:
    async with tasks.client as client:
        answer = await client.embeddings.create(model="tasks/embed", input=["one", "two"])

    assert answer.data[1].embedding == [0.25, -0.5]
    # 18 tokens at $0.10 per million.
    assert answer.usage.model_extra == {"cost": 0.0000018}
    assert await tasks.charged() == 1_800
    sent = json.loads(tasks.vendor.requests[0].body)
    assert sent["model"] == "embed"
    assert sent["encoding_format"] == "base64"
    assert tasks.vendor.requests[0].headers["Authorization"] == "Bearer sk-tasks"


async def test_images_by_token_and_by_piece(tasks: Tasks) -> None:
    async with tasks.client as client:
        by_token = await client.images.generate(model="tasks/draw", prompt="A fox", n=2, size="1024x1024")
        assert by_token.data is not None
        assert [image.b64_json for image in by_token.data] == [PIXEL, PIXEL]
        after_tokens = await tasks.charged()
        await client.images.generate(model="tasks/draw-by-piece", prompt="A fox")

    # 20 tokens of text at $5, 8,320 of image at $30 per million; then one picture at 4 cents.
    assert after_tokens == 20 * 5_000 + 8_320 * 30_000
    assert await tasks.charged() - after_tokens == usd("0.04")


async def test_a_streamed_image_is_charged_by_its_last_event(tasks: Tasks) -> None:
    async with tasks.client as client:
        stream = await client.images.generate(model="tasks/draw", prompt="A fox", stream=True, partial_images=1)
        kinds = [event.type async for event in stream]

    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    assert await tasks.charged() == 20 * 5_000 + 4_160 * 30_000


async def test_an_edit_passes_its_files(tasks: Tasks) -> None:
    async with tasks.client as client:
        answer = await client.images.edit(
            model="tasks/draw", image=[("a.png", b"\x89PNG\r\n\x00\xff"), ("b.png", b"B")], prompt="More fox"
        )

    assert answer.data is not None
    received = tasks.vendor.requests[0]
    assert received.fields["model"] == "draw"
    assert b"\x89PNG\r\n\x00\xff" in received.body


async def test_speech(tasks: Tasks) -> None:
    async with tasks.client as client:
        sound = await client.audio.speech.create(model="tasks/speak", voice="v", input="Grüezi mitenand")
        assert await sound.aread() == SOUND
        assert sound.response.headers["content-type"] == "audio/pcm"
        assert Decimal(sound.response.headers["x-gatewayz-cost-usd"]) == Decimal("0.000225")
        by_character = await tasks.charged()
        await client.audio.speech.create(model="tasks/speak-by-token", voice="v", input="Grüezi mitenand")

    assert by_character == 15 * 15_000
    # 5 tokens of text at $0.60, and one second of sound, 21 tokens, at $12 per million.
    assert await tasks.charged() - by_character == 5 * 600 + 21 * 12_000


async def test_streamed_speech(tasks: Tasks) -> None:
    body = {"model": "tasks/speak-by-token", "voice": "v", "input": "Hello", "stream_format": "sse"}
    answer = await tasks.post("/v1/audio/speech", **body)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("speech.audio.delta") == 4
    assert await tasks.charged() == 14 * 600 + 101 * 12_000


@pytest.mark.parametrize(("form_", "seconds"), [("json", 3), ("verbose_json", 3), ("text", 4)])
async def test_transcriptions(tasks: Tasks, form_: Any, seconds: int) -> None:
    async with tasks.client as client:
        told = await client.audio.transcriptions.create(
            model="tasks/write", file=("a.wav", wav(4)), response_format=form_
        )

    assert "Hello there." in (told if isinstance(told, str) else told.text)
    assert tasks.vendor.requests[0].fields["file"] == wav(4)
    # Where the vendor does not say how long it was, the recording's own length is charged.
    assert await tasks.charged() == seconds * usd("0.0001")


async def test_translations(tasks: Tasks) -> None:
    told = await tasks.place.http.post(
        "/v1/audio/translations",
        data={"model": "tasks/write"},
        files={"file": ("a.wav", wav(1))},
        headers={"Authorization": f"Bearer {tasks.key}"},
    )

    assert told.json()["text"] == "Hello there."
    assert tasks.vendor.requests[0].path == "/audio/translations"


async def test_rerank(tasks: Tasks) -> None:
    answer = await tasks.post("/v1/rerank", model="tasks/rank", query="q", documents=["a"] * 150)

    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 150
    assert await tasks.charged() == 2 * usd("0.002")


async def test_moderations_that_are_declared_free(tasks: Tasks) -> None:
    async with tasks.client as client:
        answer = await client.moderations.create(model="tasks/judge", input="Is this fine?")

    assert not answer.results[0].flagged
    assert await tasks.charged() == 0


async def test_the_same_door_as_for_a_chat(tasks: Tasks) -> None:
    poor = await tasks.place.customer("0.01")
    refused = await tasks.place.http.post(
        "/v1/images/generations",
        json={"model": "tasks/draw", "prompt": "A fox", "n": 10},
        headers={"Authorization": f"Bearer {poor}"},
    )
    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "insufficient_credits"
    dear = await tasks.post("/v1/images/generations", model="tasks/draw", prompt="A", n=10, max_cost_usd="0.01")
    assert dear.json()["error"]["code"] == "max_cost_exceeded"
    unknown = await tasks.post("/v1/embeddings", model="tasks/embedd", input="a")
    assert unknown.status_code == 404
    assert "tasks/embed" in unknown.json()["error"]["message"]
    anonymous = await tasks.place.http.post("/v1/rerank", json={"model": "tasks/rank"})
    assert anonymous.status_code == 401
    assert not tasks.vendor.requests
    assert await tasks.charged() == 0


async def test_a_vendors_failure_is_free(tasks: Tasks) -> None:
    tasks.vendor.fails["/embeddings"] = (402, {"error": {"message": "our account is empty"}})
    answer = await tasks.post("/v1/embeddings", model="tasks/embed", input="a")

    assert answer.status_code in (502, 503)
    assert await tasks.charged() == 0


@pytest.mark.parametrize(
    ("path", "members", "told"),
    [
        ("/embeddings", {"model": "tasks/embed", "input": "a"}, {"object": "list", "data": []}),
        ("/embeddings", {"model": "tasks/embed", "input": "a"}, {"message": "overloaded"}),
        ("/images/generations", {"model": "tasks/draw-by-piece", "prompt": "A fox"}, {"created": 1, "data": []}),
        ("/rerank", {"model": "tasks/rank", "query": "q", "documents": ["a"]}, {"id": "r"}),
    ],
)
async def test_an_answer_without_what_was_asked_for_is_free(
    tasks: Tasks, path: str, members: dict[str, Any], told: Any
) -> None:
    tasks.vendor.fails[path] = (200, told)
    answer = await tasks.post(f"/v1{path}", **members)

    assert answer.status_code in (502, 503)
    assert await tasks.charged() == 0


async def test_the_same_key_draws_once(tasks: Tasks) -> None:
    headers = {"Authorization": f"Bearer {tasks.key}", "Idempotency-Key": "one"}
    bodies = []
    for _ in range(2):
        answer = await tasks.place.http.post(
            "/v1/audio/speech", json={"model": "tasks/speak", "voice": "v", "input": "Hello"}, headers=headers
        )
        assert answer.headers["content-type"] == "audio/pcm"
        bodies.append(answer.content)

    assert bodies == [SOUND, SOUND]
    assert len(tasks.vendor.requests) == 1
    assert await tasks.charged() == 5 * 15_000


async def test_what_does_not_serve_a_task_is_not_asked_to(tasks: Tasks) -> None:
    answer = await tasks.post("/v1/embeddings", model="sandbox/echo", input="a")

    assert answer.status_code in (404, 503)
    assert answer.json()["error"]["code"] in ("model_not_found", "no_vendor_available")
    assert await tasks.charged() == 0


async def test_a_form_that_is_broken_is_refused(tasks: Tasks) -> None:
    broken = form(("model", b"tasks/write"))[:-8]
    answer = await tasks.place.http.post(
        "/v1/audio/transcriptions",
        content=broken,
        headers={"Authorization": f"Bearer {tasks.key}", "Content-Type": "multipart/form-data; boundary=x"},
    )

    assert answer.status_code == 400
    assert "form" in answer.json()["error"]["message"]
