"""A stream means the same however it was cut, and nobody can write lines into it."""

import re
import time
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.transport.sse import (
    Event,
    EventSplitter,
    EventTooLarge,
    comment,
    data_event,
    events,
    named_event,
)
from tests.examples import examples

BOM = b"\xef\xbb\xbf"
LINES = [
    b"",
    b"data: x",
    b"data:x",
    b"data:  two spaces",
    b"data",
    b"data:",
    b'data: {"a": "\xe2\x82\xac"}',
    b"data: [DONE]",
    b": keep-alive",
    b":",
    b"event: ping",
    b"event:ping",
    b"event",
    b"event: \xff",
    b"id: 7",
    b"retry: 10",
    b"datax: no",
    b" data: no",
    BOM,
    BOM + b"data: marked",
]
LINE_ENDS = [b"\n", b"\r\n", b"\r"]

streams = st.lists(st.sampled_from(LINES + LINE_ENDS * 5), max_size=30).map(b"".join)
single_lines = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "))


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    stream = draw(streams)
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12))
    return [stream[start:end] for start, end in pairwise([0, *sorted(cuts), len(stream)])]


def naive_events(stream: bytes) -> list[Event]:
    """The algorithm of the standard, line by line, on the whole stream."""
    found: list[Event] = []
    name, data, after_blank = "", list[bytes](), True
    for raw in [*re.split(rb"\r\n|\r|\n", stream), b""]:
        # Wider than the standard, which drops the mark only once, before the first event.
        line = raw.removeprefix(BOM) if after_blank else raw
        after_blank = not raw
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if data:
                found.append(Event(b"\n".join(data), name or "message"))
            name, data = "", []
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
    return found


def fed(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [*map(splitter.feed, pieces), splitter.end()]


@given(streams)
def test_events_are_read_as_the_standard_says(stream: bytes) -> None:
    assert events(stream) == naive_events(stream)


@settings(max_examples=examples(200))
@given(cut_streams())
@example([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"])
@example([b"data: a\r\r", b"\ndata: b\n\n"])
@example([b"data: a\n\r", b"data: b\n\r", b"\ndata: c"])
def test_any_cut_of_any_stream_is_read_like_the_whole_and_kept_verbatim(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    given_out = fed(pieces)
    assert b"".join(given_out) == whole
    assert [event for piece in given_out for event in events(piece)] == naive_events(whole)


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_every_pair_of_cuts_gives_the_same_events(line_end: bytes) -> None:
    lines = [BOM + b"data: \xe2\x82\xac", b"data: b", b"", b": c", b"", b"event: e", b"data:x", b"", b""]
    stream = line_end.join(lines)
    expected = [Event("€\nb".encode()), Event(b"x", "e")]
    for first, second in combinations(range(len(stream)), 2):
        pieces = [stream[:first], stream[first:second], stream[second:]]
        given_out = fed(pieces)
        assert [event for piece in given_out for event in events(piece)] == expected
        assert given_out[-1] == b""


@pytest.mark.parametrize("line_end", LINE_ENDS)
@given(st.lists(st.sampled_from([b"data: x", b": c", b"event: e\ndata: y"]), max_size=6), st.integers(1, 9))
def test_an_event_is_handed_out_as_soon_as_it_is_whole(
    line_end: bytes,
    blocks: list[bytes],
    step: int,
) -> None:
    stream = b"".join(block.replace(b"\n", line_end) + line_end * 2 for block in blocks)
    blank = line_end * 2
    splitter, handed_out = EventSplitter(), 0
    for end in range(step, len(stream) + step, step):
        handed_out += len(splitter.feed(stream[end - step : end]))
        last = stream.rfind(blank, 0, end)
        assert handed_out == (0 if last < 0 else last + len(blank))


@pytest.mark.parametrize("chunk", [b"data: x\n\n", b"data: x\r\n\r\n", b"data: x\n\ndata: y\n\n"])
def test_a_chunk_of_whole_events_is_returned_without_a_copy(chunk: bytes) -> None:
    assert EventSplitter().feed(chunk) is chunk


def test_half_of_a_crlf_is_never_taken_for_a_blank_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r") == b""
    assert splitter.feed(b"\n") == b""
    assert splitter.feed(b"\r") == b""
    assert splitter.feed(b"\n") == b"data: a\r\n\r\n"


def test_what_has_no_last_blank_line_is_left_for_the_end() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == b"data: a\n\n"
    assert splitter.end() == b"data: b\n"
    assert splitter.end() == b""


def test_line_ends_after_an_event_are_not_left_over() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\r") + splitter.feed(b"\n") == b"data: a\r\r\n"
    assert splitter.end() == b""


@pytest.mark.parametrize("size", [1, 3, 20, 100, 1_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_event_over_the_limit_is_refused_however_it_is_cut(size: int, line_end: bytes) -> None:
    event = b"data: 12345" + line_end * 2
    stream = event * 9

    def feed_all(limit: int) -> bytes:
        splitter = EventSplitter(event_bytes_max=limit)
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        return b"".join(map(splitter.feed, pieces))

    assert feed_all(len(event)) == stream
    with pytest.raises(EventTooLarge):
        feed_all(len(event) - 1)


def test_an_event_over_the_limit_is_refused_before_it_ends() -> None:
    splitter = EventSplitter(event_bytes_max=10)
    splitter.feed(b"data: 1234")
    with pytest.raises(EventTooLarge):
        splitter.feed(b"5")


@pytest.mark.parametrize("chunk", [b"data: x\n\n", b"data: x\n"])
def test_a_stream_over_the_limit_is_refused(chunk: bytes) -> None:
    splitter = EventSplitter(stream_bytes_max=3 * len(chunk))
    for _ in range(3):
        splitter.feed(chunk)
    with pytest.raises(EventTooLarge):
        splitter.feed(b"\n")


def test_a_long_event_that_arrives_byte_by_byte_costs_linear_time() -> None:
    size = 512 * 1024
    splitter = EventSplitter()
    began = time.process_time()
    assert not any(splitter.feed(b"x") for _ in range(size))
    assert splitter.feed(b"\n\n") == b"x" * size + b"\n\n"
    assert time.process_time() - began < 5


@pytest.mark.parametrize("line", [b"\n", b"\r", b"x\n", b"x\r\n", b"data\n", b"\n\rx"])
def test_hostile_line_ends_cost_linear_time(line: bytes) -> None:
    splitter = EventSplitter(event_bytes_max=1 << 20)
    stream = line * ((1 << 20) // len(line))
    began = time.process_time()
    for start in range(0, len(stream), 1 << 14):
        events(splitter.feed(stream[start : start + (1 << 14)]))
    events(splitter.end())
    assert time.process_time() - began < 5


def test_events_of_one_data_line_each_are_read() -> None:
    assert events(b'data: {"a":1}\n\ndata: [DONE]\n\n') == [Event(b'{"a":1}'), Event(b"[DONE]")]


def test_an_event_without_data_is_no_event() -> None:
    assert events(b": ping\n\nevent: ping\n\nid: 1\n\n\n\n") == []


def test_an_empty_data_line_is_an_event() -> None:
    assert events(b"data:\n\n") == [Event(b"")]


@given(st.binary())
def test_written_data_is_read_back_as_one_event(payload: bytes) -> None:
    expected = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\0", "\ufffd".encode())
    assert naive_events(data_event(payload)) == [Event(expected)]
    assert naive_events(named_event("delta", payload)) == [Event(expected, "delta")]
    assert EventSplitter().feed(data_event(payload)) == data_event(payload)


@given(st.binary())
def test_data_cannot_write_lines_of_its_own(payload: bytes) -> None:
    *lines, last, end = re.split(rb"[\r\n]", data_event(payload))
    assert last == end == b""
    assert all(line.startswith(b"data: ") and b"\0" not in line for line in lines)


@given(single_lines.filter(bool), single_lines)
def test_names_are_read_back_and_comments_are_not(name: str, text: str) -> None:
    assert naive_events(comment(text) + named_event(name, b"{}")) == [Event(b"{}", name)]


@pytest.mark.parametrize("hostile", ["\n", "\r", "\0", "\x1f", "\x7f", "\x85", "\u2028", "\ud800"])
def test_names_and_comments_with_control_characters_are_refused(hostile: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        named_event(f"a{hostile}data: b", b"{}")
    with pytest.raises(ValueError, match="one line"):
        comment(f"a{hostile}data: b")
