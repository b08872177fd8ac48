"""`gatewayz` in this process, in a directory and an environment of its own: starting Python costs a second."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from entrypoints.cli.main import DONE, run


class Done(Struct, frozen=True):
    stdout: str
    stderr: str


class Shell:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *arguments: str, status: int = DONE, **environ: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.directory), environment(environ), own_logging(), redirect_stdout(out), redirect_stderr(err):
            returned = run(arguments)
        done = Done(out.getvalue(), err.getvalue())
        assert returned == status, done
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, status: int = DONE, **environ: str) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status, **environ).stdout)


@contextmanager
def environment(given: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({"PATH": before["PATH"], "COLUMNS": "200", **given})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def own_logging() -> Iterator[None]:
    """What a command does to the process's logging is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
