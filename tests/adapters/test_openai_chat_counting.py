"""The high guess of what a stream has produced, which decides how often its tokens are counted on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.dialects.openai_chat.client import OpenAIChatStream

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


@pytest.mark.parametrize("at_first", [1, 3])
async def test_what_surrounds_the_text_is_not_taken_for_text(at_first: int) -> None:
    """Also where the first content arrives alone, as it does from every vendor that streams at once."""

    async def chunks() -> AsyncIterator[bytes]:
        yield CHUNK * at_first
        for _ in range(20):
            yield CHUNK

    stream = OpenAIChatStream(chunks(), lambda: None, {}, shows_usage=True)
    pieces = aiter(stream)
    for _ in range(15):
        await anext(pieces)
    deltas = at_first + 14
    assert deltas <= stream.produced_at_most() <= 3 * deltas
    assert stream.produced_tokens() == deltas
