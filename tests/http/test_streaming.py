"""What goes out to the caller of a stream, and in which order."""

from __future__ import annotations

from typing import Any, cast

import pytest

from entrypoints.http.exchange import Exchange, Watch
from entrypoints.http.streaming import EventStream

pytestmark = pytest.mark.anyio


class Line:
    """An exchange, and a watch whose caller stays."""

    gone = False
    status = 0

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_ping_that_comes_after_the_end_says_nothing(begun: bool) -> None:
    line = Line()
    stream = EventStream(cast(Exchange, line), cast(Watch, line), b": ping\n\n", keeps=False)
    if begun:
        await stream.ping()
    await stream.finish()

    await stream.ping()

    *before, last = line.sent
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}
    assert [message.get("body") for message in before] == [None, *([b": ping\n\n"] if begun else [])]
