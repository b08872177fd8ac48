"""The callers: each sends orders over its own connection, and checks that what comes back is what was ordered."""

from __future__ import annotations

import asyncio
from collections import Counter

from adapters.dialects.openai_chat.server import read_request
from tests.benchmarks.load import request
from tests.soak.orders import Act, Order, order_of

PATH = "/v1/chat/completions"
PATIENCE_S = 30.0
LEAVES_AFTER_S = 0.05
"""When the caller of an answer that never comes gives up."""
WORD = b'"content":" word"'
SURPRISES_TOLD = 10


class Load:
    """So many requests by so many callers at once."""

    def __init__(self, port: int, key: str, requests: int) -> None:
        self._port = port
        self._key = key
        self._numbers = iter(range(requests))
        self.done = 0
        self.sent: Counter[Act] = Counter()
        self.tokens: Counter[Act] = Counter()
        self.stalled_prompt_tokens = 0
        """The gateway's own estimates for the streams whose callers left: their vendor never told a usage."""
        self.surprised = 0
        self.surprises: list[str] = []
        """The first answers that were not as ordered."""

    async def run(self, callers: int) -> None:
        await asyncio.gather(*(self._caller() for _ in range(callers)))

    async def _caller(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in self._numbers:
            order = order_of(number)
            reader, writer = connection or await asyncio.open_connection("127.0.0.1", self._port)
            connection = reader, writer
            self.sent[order.act] += 1
            self.tokens[order.act] += order.tokens
            if order.act is Act.STALL:
                self.stalled_prompt_tokens += read_request(order.body).prompt_tokens
            writer.write(request(PATH, order.body, self._key))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    surprise = await _outcome(order, reader)
            except (TimeoutError, OSError, EOFError) as error:
                surprise = f"{type(error).__name__}: {error}"
            if surprise:
                self._note(order, surprise)
            if surprise or order.act in (Act.STALL, Act.HANG):
                writer.close()
                connection = None
            self.done += 1
        if connection is not None:
            connection[1].close()

    def _note(self, order: Order, surprise: str) -> None:
        self.surprised += 1
        if len(self.surprises) < SURPRISES_TOLD:
            self.surprises.append(f"{order.act} {order.tokens}: {surprise}")


async def _outcome(order: Order, reader: asyncio.StreamReader) -> str:
    """Wait for what was ordered; what came instead, or nothing."""
    if order.act is Act.HANG:
        await asyncio.sleep(LEAVES_AFTER_S)
        return ""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if order.act is Act.STALL and status == 200:
        seen = b""
        while seen.count(WORD) < order.tokens:
            piece = await reader.read(1 << 16)
            if not piece:
                return f"the stream ended after {seen.count(WORD)} words"
            seen += piece
        return ""
    body = await _body(head, reader)
    match order.act:
        case Act.ANSWER:
            fine = status == 200 and body.count(b" word") == order.tokens
        case Act.STREAM:
            fine = status == 200 and body.count(WORD) == order.tokens and b"[DONE]" in body
        case Act.BREAK:
            fine = status >= 500 or (status == 200 and b'"error"' in body)
        case _:
            fine = status >= 500
    return "" if fine else f"{status} {body[-300:]!r}"


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    at = head.lower().find(b"content-length:")
    if at >= 0:
        return await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    body = b""
    while not body.endswith(b"0\r\n\r\n"):
        piece = await reader.read(1 << 16)
        if not piece:
            raise EOFError("the answer broke off")
        body += piece
    return body
