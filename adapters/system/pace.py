"""Long work in a thread that lets the threads beside it run.

A thread that computes keeps the interpreter for five milliseconds at a time, and whoever serves requests then waits so
long at each turn of its loop.  Work that is done in short slices with rests between them takes longer itself and is
hardly noticed by others.
"""

from __future__ import annotations

import time
from typing import Final

WORK_S: Final = 0.0005
REST_S: Final = 0.0010


class Pace:
    """Called often by whoever works long, it sleeps a little after each slice of work."""

    def __init__(self, work_s: float = WORK_S, rest_s: float = REST_S) -> None:
        self._work_s = work_s
        self._rest_s = rest_s
        self._began = time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self._began >= self._work_s:
            time.sleep(self._rest_s)
            self._began = time.perf_counter()
