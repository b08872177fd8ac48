"""What the load asks its fake vendor to do: an order is a word and a number in the prompt, obeyed to the letter.

So both sides know what must come of each request, and what it must cost, without telling each other.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

PROMPT_TOKENS: Final = 11
"""What the vendor says that every prompt has."""
ORDER: Final = re.compile(rb"order: (\w+) (\d+)")


class Act(StrEnum):
    ANSWER = "answer"
    """A whole answer of so many tokens."""
    STREAM = "stream"
    """A stream of so many tokens, with its usage at the end."""
    STALL = "stall"
    """A stream of so many tokens that then falls silent; its caller leaves."""
    HANG = "hang"
    """Nothing at all; its caller leaves."""
    FAIL = "fail"
    """A 500."""
    RESET = "reset"
    """The connection cut instead of an answer."""
    GARBLE = "garble"
    """Status 200 and no JSON."""
    BREAK = "break"
    """A stream cut after so many tokens."""


FAULTS: Final = (Act.FAIL, Act.RESET, Act.GARBLE, Act.BREAK)
LEAVINGS: Final = (Act.STALL, Act.HANG)
STREAMED: Final = frozenset({Act.STREAM, Act.STALL, Act.BREAK})


class Order(Struct, frozen=True):
    act: Act
    tokens: int

    @property
    def body(self) -> bytes:
        """The request that asks for it."""
        streamed = b',"stream":true' if self.act in STREAMED else b""
        return b'{"model":"peer/model","messages":[{"role":"user","content":"order: %b %d"}],"max_tokens":500%b}' % (
            self.act.value.encode(),
            self.tokens,
            streamed,
        )


def read_order(body: bytes) -> Order:
    found = ORDER.search(body)
    if found is None:
        raise ValueError("the request has no order in it")
    return Order(Act(found[1].decode()), int(found[2]))


def order_of(number: int) -> Order:
    """The order of the request of this number: of 100, 5 callers leave, 1 meets a fault, 54 get whole answers."""
    turn, hundred = number % 100, number // 100
    if turn == 50:
        return Order(FAULTS[hundred % len(FAULTS)], 3 + hundred % 5)
    if turn % 20 == 7:
        return Order(LEAVINGS[(turn // 20 + hundred) % len(LEAVINGS)], 1 + (turn + hundred) % 9)
    if turn % 5 < 3:
        return Order(Act.ANSWER, 1 + (number * 7) % 40)
    return Order(Act.STREAM, 2 + (number * 3) % 12)
