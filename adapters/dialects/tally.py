"""Counting output tokens for which a vendor gives no figure."""

from __future__ import annotations

from typing import Final

from domain.inference.tokens import ASCII_BYTES_PER_TOKEN_X10, OTHER_BYTES_PER_TOKEN_X10

BYTES_PER_DELTA_X10: Final = 80
"""Up to this many bytes a delta, a vendor sends one token at a time, and counting deltas counts tokens."""

_ASCII = bytes(range(128))


class TextTally:
    """Adds up what a model wrote."""

    __slots__ = ("_ascii", "_deltas", "_other")

    def __init__(self) -> None:
        self._deltas = self._ascii = self._other = 0

    def add_text(self, text: str, *, is_delta: bool) -> None:
        """A text that is not empty; one of a stream's pieces, or all of it."""
        encoded = text.encode("utf-8", "surrogatepass")
        outside = 0 if encoded.isascii() else len(encoded.translate(None, _ASCII))
        self._ascii += len(encoded) - outside
        self._other += outside
        self._deltas += is_delta

    @property
    def text_bytes(self) -> int:
        return self._ascii + self._other

    @property
    def tokens(self) -> int:
        """Deltas where they are as short as tokens, else an estimate by bytes."""
        if self._deltas and self.text_bytes * 10 <= self._deltas * BYTES_PER_DELTA_X10:
            return self._deltas
        return -(-self._ascii * 10 // ASCII_BYTES_PER_TOKEN_X10) - (-self._other * 10 // OTHER_BYTES_PER_TOKEN_X10)
