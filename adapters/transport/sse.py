"""Server-sent events, cut out of a vendor's byte stream without changing a byte, read, and written.

Cutting and reading are apart because most streams are only passed on: the cutter finds where whole
events end, and only who needs an event's content pays for parsing it.
"""

from __future__ import annotations

from msgspec import Struct

EVENT_BYTES_MAX = 32 * 1024 * 1024
STREAM_BYTES_MAX = 512 * 1024 * 1024

_BLANK_LINES = (b"\n\n", b"\r\n\r\n")
_LINE_ENDS = (b"\n", b"\r")
_BOUNDARY_BYTES_MAX = 4
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """A vendor sent more in one event, or in one stream, than we are willing to hold."""


class Event(Struct, frozen=True, gc=False):
    data: bytes
    name: str = "message"


class EventSplitter:
    """Turns the chunks of one stream, cut anywhere, into chunks of whole events."""

    def __init__(
        self,
        event_bytes_max: int = EVENT_BYTES_MAX,
        stream_bytes_max: int = STREAM_BYTES_MAX,
    ) -> None:
        self._event_bytes_max = event_bytes_max
        self._stream_bytes_left = stream_bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All events that `data` completes, verbatim; empty if it completes none."""
        self._stream_bytes_left -= len(data)
        if self._stream_bytes_left < 0:
            raise EventTooLarge("the stream exceeds the bytes allowed for all its events")
        if not self._rest and data.endswith(_BLANK_LINES) and len(data) <= self._event_bytes_max:
            return data
        return self._completed(data)

    def end(self) -> bytes:
        """What is left when the vendor closes, as is: some close without the last blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _completed(self, data: bytes) -> bytes:
        rest = self._rest
        # Older bytes hold no boundary, and searching them again would make tiny chunks quadratic.
        searched = max(0, len(rest) - _BOUNDARY_BYTES_MAX + 1)
        rest += data
        end = _last_boundary(rest, searched)
        if len(rest) - end > self._event_bytes_max:
            raise self._too_large()
        if not end:
            return b""
        with memoryview(rest) as view:
            whole = bytes(view[:end])
        del rest[:end]
        self._check_events(whole)
        return whole

    def _check_events(self, whole: bytes) -> None:
        # The last boundary within reach covers all events before it, so few steps suffice.
        start, most = 0, self._event_bytes_max
        while len(whole) - start > most:
            end = _last_boundary(whole[start : start + most], 0)
            if not end:
                raise self._too_large()
            start += end

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"one event exceeds {self._event_bytes_max} bytes")


def _last_boundary(data: bytes | bytearray, start: int) -> int:
    """Where the last blank line that begins at `start` or later ends; 0 if there is none."""
    end = data.rfind(b"\n\n", start) + 2
    if data.find(b"\r", start) >= 0:
        # A CR that ends the data after an LF is most likely half of a CRLF: its LF is awaited, so
        # that nothing we write between two chunks can part them.  After a CR it is a line of its own.
        for blank, stop in ((b"\n\r", len(data) - 1), (b"\r\r", len(data))):
            at = data.rfind(blank, start, stop)
            if at >= 0:
                end = max(end, at + (3 if data[at + 2 : at + 3] == b"\n" else 2))
    if end > 1:
        return end
    if data[:1] in _LINE_ENDS:
        # `data` follows a boundary, so these line ends are blank lines, only late.
        return len(data) - len(data.lstrip(b"\r\n"))
    return 0


def events(whole: bytes) -> list[Event]:
    """The events with data in `whole`; an unfinished one at its end counts as finished."""
    if b"\r" in whole:
        whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if whole.startswith(b"data: ") and whole.endswith(b"\n\n"):
        payloads = whole[6:-2].split(b"\n\ndata: ")
        # As many line ends as that leaves none inside: every event is a single data line.
        if whole.count(b"\n") == 2 * len(payloads):
            return [Event(payload) for payload in payloads]
    parsed = (_event(block) for block in whole.split(b"\n\n") if b"data" in block)
    return [event for event in parsed if event is not None]


def _event(block: bytes) -> Event | None:
    name, lines = b"", []
    # A stream is read piece by piece, and no piece knows whether it is the first: so a byte order
    # mark is dropped before any event.
    for line in block.lstrip(b"\n").removeprefix(_BOM).split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if not lines:
        return None
    return Event(b"\n".join(lines), name.decode(errors="replace") or "message")


def data_event(payload: bytes) -> bytes:
    return b"data: %b\n\n" % _one_field(payload)


def named_event(name: str, payload: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (_one_line(name), _one_field(payload))


def comment(text: str) -> bytes:
    """A line that clients skip, to keep an idle connection open."""
    return b": %b\n\n" % _one_line(text)


def _one_field(payload: bytes) -> bytes:
    """`payload` so that each of its lines stays data, whatever it contains."""
    if b"\r" in payload:
        payload = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\x00" in payload:
        # No JSON contains a bare NUL, and readers written in C take it for the end.
        payload = payload.replace(b"\x00", "\N{REPLACEMENT CHARACTER}".encode())
    if b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    return payload


def _one_line(text: str) -> bytes:
    # Unprintable covers every control character, also those at which only some readers break lines.
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot be written on one line of an event stream")
    return text.encode()
