"""Whose body an explanation is asked with, where nobody says."""

from __future__ import annotations

import pytest

from domain.catalog import Dialect
from entrypoints.http.explain import dialect_of


@pytest.mark.parametrize(
    ("body", "headers", "dialect"),
    [
        (b'{"messages":[],"model":"m"}', {}, Dialect.OPENAI_CHAT),
        (b'{"messages":[],"max_tokens":5}', {}, Dialect.OPENAI_CHAT),
        (b'{"messages":[],"max_tokens":5}', {b"anthropic-version": b"2023-06-01"}, Dialect.ANTHROPIC),
        (b'{"messages":[],"system":"x"}', {}, Dialect.ANTHROPIC),
        (b'{"messages":[],"stop_sequences":["x"]}', {}, Dialect.ANTHROPIC),
        (b'{"input":"x"}', {}, Dialect.OPENAI_RESPONSES),
        (b'{"input":"x"}', {b"anthropic-version": b"2023-06-01"}, Dialect.OPENAI_RESPONSES),
        (b"", {}, Dialect.OPENAI_CHAT),
        (b"[]", {}, Dialect.OPENAI_CHAT),
        (b"\xff", {}, Dialect.OPENAI_CHAT),
        (b"[" * 100_000, {}, Dialect.OPENAI_CHAT),
    ],
)
def test_a_bodys_dialect_is_seen_by_its_members(body: bytes, headers: dict[bytes, bytes], dialect: Dialect) -> None:
    assert dialect_of(body, headers) is dialect
