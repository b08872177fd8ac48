"""Everything beside chat works on a gateway without any vendor's key, and is charged."""

from __future__ import annotations

import pytest

from tests.adapters.test_openai_tasks import wav
from tests.e2e.conftest import Place, nanos

pytestmark = pytest.mark.anyio


async def test_every_task_on_the_sandbox(place: Place) -> None:
    before = await place.charged()
    async with place.client() as client:
        vectors = await client.embeddings.create(model="sandbox/embed", input=["a red fox", "a red dog", "the sea"])
        picture = await client.images.generate(model="sandbox/draw", prompt="A fox", n=2)
        sound = await client.audio.speech.create(model="sandbox/speak", voice="any", input="A sentence to be spoken.")
        heard = await client.audio.transcriptions.create(model="sandbox/listen", file=("a.wav", wav(3)))
        judged = await client.moderations.create(model="sandbox/judge", input=["fine", "sandbox-flag"])
        ranked = await place.http.post(
            "/v1/rerank",
            json={"model": "sandbox/rank", "query": "red fox", "documents": ["the sea", "a red fox"], "top_n": 1},
            headers={"Authorization": f"Bearer {place.key}"},
        )

        fox, dog, sea = (row.embedding for row in vectors.data)

        def near(left: list[float], right: list[float]) -> float:
            return sum(a * b for a, b in zip(left, right, strict=True))

        assert near(fox, fox) > near(fox, dog) > near(fox, sea)
        assert picture.data is not None
        assert len(picture.data) == 2
        assert (await sound.aread()).startswith(b"RIFF")
        assert heard.text == "A recording of 3 seconds."
        assert [result.flagged for result in judged.results] == [False, True]
        assert ranked.json()["results"] == [{"index": 1, "relevance_score": 1.0}]

    await place.nothing_held()
    told = vectors.usage.model_extra
    assert told is not None
    # Two pictures at a cent, 24 characters at $15 per million, 3 seconds, one search.
    expected = nanos(told["cost"]) + 2 * 10_000_000 + 24 * 15_000 + 3 * 100_000 + 1_000_000
    assert await place.charged() - before == expected
