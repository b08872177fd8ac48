"""A vendor that obeys the orders in its prompts, and counts what it has served.

`python -m tests.soak.vendor` prints its port; `GET /tally` tells what it answered in full, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections import Counter
from typing import cast

import uvloop

from tests.soak.orders import PROMPT_TOKENS, Act, read_order

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"model","choices":[%b]%b}\n\n'
DELTA = b'{"index":0,"delta":{"content":" word"},"finish_reason":null}'
FINISH = b'{"index":0,"delta":{},"finish_reason":"stop"}'
EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Vendor(asyncio.Protocol):
    """One connection."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = LENGTH.search(self._received, 0, head_end)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return
        request, self._received = self._received[:end], self._received[end:]
        if request.startswith(b"GET /tally"):
            self._write(_with_length(200, json.dumps(self._tally).encode()))
        elif request.startswith(b"GET"):
            self._write(_with_length(200, b'{"object":"list","data":[{"id":"model"}]}'))
        else:
            self._obey(request[head_end:])

    def _obey(self, body: bytes) -> None:
        order = read_order(body)
        match order.act:
            case Act.ANSWER:
                self._count(order.act, order.tokens)
                self._write(_with_length(200, _whole(order.tokens)))
            case Act.STREAM:
                self._count(order.act, order.tokens)
                self._write(EVENTS_HEAD + _deltas(order.tokens) + _end(order.tokens))
            case Act.STALL:
                self._count(order.act, order.tokens)
                self._write(EVENTS_HEAD + _deltas(order.tokens))
            case Act.BREAK:
                self._write(EVENTS_HEAD + _deltas(order.tokens))
                # What was written must arrive before the connection breaks.
                asyncio.get_running_loop().call_later(0.02, self._abort)
            case Act.FAIL:
                self._write(_with_length(500, b'{"error":{"message":"as ordered","type":"server_error"}}'))
            case Act.GARBLE:
                self._write(_with_length(200, b"<html>as ordered</html>"))
            case Act.RESET:
                self._abort()
            case Act.HANG:
                pass

    def _count(self, act: Act, tokens: int) -> None:
        self._tally[f"{act}_requests"] += 1
        self._tally[f"{act}_tokens"] += tokens

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    def _abort(self) -> None:
        self._transport.abort()


def _usage(tokens: int) -> bytes:
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        PROMPT_TOKENS,
        tokens,
        PROMPT_TOKENS + tokens,
    )


def _whole(tokens: int) -> bytes:
    return (
        b'{"id":"c","object":"chat.completion","created":1,"model":"model","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"%b"},"finish_reason":"stop"}],"usage":%b}'
        % (b" word" * tokens, _usage(tokens))
    )


def _deltas(tokens: int) -> bytes:
    return b"".join([_piece(CHUNK % (DELTA, b""))] * tokens)


def _end(tokens: int) -> bytes:
    usage = CHUNK % (b"", b',"usage":%b' % _usage(tokens))
    return _piece(CHUNK % (FINISH, b"")) + _piece(usage) + _piece(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _piece(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _with_length(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Told\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


async def serve() -> None:
    stopped, tally = asyncio.Event(), Counter[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = await asyncio.get_running_loop().create_server(lambda: Vendor(tally), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stopped.wait()


def main() -> int:
    uvloop.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
