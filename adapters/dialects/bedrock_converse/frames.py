"""AWS's binary event stream, cut and read: `application/vnd.amazon.eventstream`, from AWS's public description.

A frame is its whole length, the length of its headers and a checksum of these two (4 bytes each, big-endian), then the
headers, the payload, and a checksum of everything before it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final
from zlib import crc32

from msgspec import Struct

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024 + 128 * 1024
"""The payload's and the headers' limits together."""
STREAM_BYTES_MAX: Final = 512 * 1024 * 1024
_PRELUDE: Final = struct.Struct(">III")
_SUM: Final = struct.Struct(">I")
_LEAST: Final = _PRELUDE.size + _SUM.size
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type, where the type alone tells: booleans, integers, moments, UUIDs."""
_BYTES, _TEXT = 6, 7


class FrameBroken(ValueError):
    """What came is no event stream, or was damaged on its way."""


class Frame(Struct, frozen=True, gc=False):
    headers: Mapping[str, str]
    """Those that are text; others tell nothing here."""
    payload: bytes

    @property
    def kind(self) -> str:
        """The name of the event, of the exception, or of the error."""
        headers = self.headers
        return headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code") or ""

    @property
    def fails(self) -> bool:
        return self.headers.get(":message-type", "event") != "event"


class FrameSplitter:
    """Turns the chunks of one stream, cut anywhere, into chunks of whole frames."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX, stream_bytes_max: int = STREAM_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._left = stream_bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All frames that `data` completes, verbatim; empty if it completes none.  Raises FrameBroken."""
        self._left -= len(data)
        if self._left < 0:
            raise FrameBroken("the stream exceeds the bytes allowed for all its frames")
        rest = self._rest
        rest += data
        end = 0
        while len(rest) - end >= _PRELUDE.size:
            length = _length(rest, end, self._frame_bytes_max)
            if len(rest) - end < length:
                break
            end += length
        whole = bytes(rest[:end])
        del rest[:end]
        return whole

    @property
    def unfinished(self) -> bool:
        return bool(self._rest)


def frames(whole: bytes) -> list[Frame]:
    """Whole frames, one after another, their checksums proven.  Raises FrameBroken."""
    found: list[Frame] = []
    at = 0
    while at < len(whole):
        if len(whole) - at < _LEAST:
            raise FrameBroken("a frame is not complete")
        length = _length(whole, at, FRAME_BYTES_MAX)
        end = at + length
        if end > len(whole):
            raise FrameBroken("a frame is not complete")
        (_, headers_length, _) = _PRELUDE.unpack_from(whole, at)
        (told,) = _SUM.unpack_from(whole, end - _SUM.size)
        if crc32(whole[at : end - _SUM.size]) != told:
            raise FrameBroken("a frame's checksum is wrong")
        start = at + _PRELUDE.size
        if start + headers_length > end - _SUM.size:
            raise FrameBroken("a frame's headers are longer than the frame")
        headers = _headers(whole[start : start + headers_length])
        found.append(Frame(headers, whole[start + headers_length : end - _SUM.size]))
        at = end
    return found


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame with headers of text."""
    packed = b"".join(
        struct.pack(">B", len(name.encode()))
        + name.encode()
        + struct.pack(">BH", _TEXT, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", _LEAST + len(packed) + len(payload), len(packed))
    body = lengths + _SUM.pack(crc32(lengths)) + packed + payload
    return body + _SUM.pack(crc32(body))


def _length(data: bytes | bytearray, at: int, most: int) -> int:
    length, headers_length, told = _PRELUDE.unpack_from(data, at)
    if crc32(bytes(data[at : at + 8])) != told:
        raise FrameBroken("a frame's beginning is damaged, or this is no event stream")
    if not _LEAST <= length <= most or headers_length > length - _LEAST:
        raise FrameBroken(f"a frame of {length} bytes cannot be read")
    return int(length)


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name = data[at + 1 : name_end].decode()
            kind = data[name_end]
            at = name_end + 1
            if kind in (_BYTES, _TEXT):
                (length,) = struct.unpack_from(">H", data, at)
                value = data[at + 2 : at + 2 + length]
                if len(value) < length:
                    raise FrameBroken("a frame's header is cut short")
                at += 2 + length
                if kind == _TEXT:
                    found[name] = value.decode()
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise FrameBroken("a frame's headers cannot be read") from None
    return found
