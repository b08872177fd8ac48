"""Whatever the clock does, ids only go up, are UUIDv7, and never meet those of a forked process."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from adapters.system.ids import NANOS_PER_MS, TimeOrderedIds

LAST_NANO = 2**48 * NANOS_PER_MS - 10**15
moments = st.lists(st.integers(0, LAST_NANO), min_size=1, max_size=100)
jitters = st.lists(st.integers(-2 * NANOS_PER_MS, 2 * NANOS_PER_MS), min_size=2, max_size=200)


def ids_at(nanos: list[int]) -> list[str]:
    ticking: Iterator[int] = iter(nanos)
    ids = TimeOrderedIds(nanos_since_1970=lambda: next(ticking))
    return [ids.fresh() for _ in nanos]


@given(moments)
def test_ids_ascend_however_the_clock_jumps(nanos):
    made = ids_at(nanos)
    assert made == sorted(set(made))


@given(st.integers(10**18, 2 * 10**18), jitters)
def test_ids_ascend_while_the_clock_trembles(start, steps):
    made = ids_at([start + step for step in steps])
    assert made == sorted(set(made))


@given(moments)
def test_every_id_is_a_uuid_of_version_7(nanos):
    for text in ids_at(nanos):
        assert re.fullmatch("[0-9a-f]{32}", text)
        parsed = uuid.UUID(hex=text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


@given(st.lists(st.integers(0, LAST_NANO), min_size=1, max_size=100, unique=True).map(sorted))
def test_an_id_begins_with_the_milliseconds_of_its_making(nanos):
    # Far enough apart that no id has to run ahead of the clock.
    spread = [nano // NANOS_PER_MS * NANOS_PER_MS + NANOS_PER_MS * n for n, nano in enumerate(nanos)]
    assert [int(text[:12], 16) for text in ids_at(spread)] == [nano // NANOS_PER_MS for nano in spread]


@given(st.integers(0, LAST_NANO), st.integers(2, 20))
def test_processes_forked_at_one_instant_make_different_ids(nano, count):
    """A fork copies all that the source remembers; only the operating system's entropy differs."""
    forks = [TimeOrderedIds(nanos_since_1970=lambda: nano) for _ in range(count)]
    assert len({fork.fresh() for fork in forks}) == count


def test_a_burst_within_one_millisecond_borrows_from_the_next():
    made = ids_at([0] * 10_000)
    assert made == sorted(set(made))
    assert int(made[-1][:12], 16) == 2


def test_a_forked_process_makes_ids_of_its_own():
    ids = TimeOrderedIds(nanos_since_1970=lambda: 1)
    ids.fresh()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, ids.fresh().encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        theirs = pipe.read().decode()
    os.waitpid(child, 0)
    ours = ids.fresh()
    assert theirs[:16] == ours[:16]
    assert theirs != ours


def test_ids_carry_the_time_of_the_machine():
    before = time.time_ns() // NANOS_PER_MS
    made = int(TimeOrderedIds().fresh()[:12], 16)
    assert before <= made <= time.time_ns() // NANOS_PER_MS
