"""Estimates that reserve credit: never nothing, never absurd, the same for the same text."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.inference.tokens import MEDIA_TOKENS, estimated_prompt_tokens, estimated_tokens

IMAGE = base64.b64encode(bytes(range(256)) * 400).decode()


@given(st.text(min_size=1))
def test_anything_at_all_is_at_least_one_token(text):
    assert estimated_tokens(text.encode("utf-8", "surrogatepass")) >= 1


def test_nothing_is_no_token():
    assert estimated_tokens(b"") == 0


@given(st.binary(), st.binary())
def test_more_text_is_never_fewer_tokens(text, more):
    assert estimated_tokens(text + more) >= estimated_tokens(text)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 160, 300),
        ("敏捷的棕色狐狸跳过了懒狗。" * 20, 200, 400),
        ("Съешь ещё этих мягких французских булок. " * 20, 200, 700),
    ],
)
def test_estimates_are_within_what_real_tokenizers_count(text, least, most):
    assert least <= estimated_tokens(text.encode()) <= most


@pytest.mark.parametrize("escaped", [False, True])
def test_inline_media_counts_by_the_piece_and_not_by_its_bytes(escaped):
    url = f"data:image/png;base64,{IMAGE}"
    body = json.dumps({"content": [{"type": "image_url", "image_url": {"url": url}}] * 2})
    raw = (body.replace("/", "\\/") if escaped else body).encode()
    assert 2 * MEDIA_TOKENS < estimated_prompt_tokens(raw) < 2 * MEDIA_TOKENS + 60


def test_bare_base64_members_are_media_too():
    raw = json.dumps({"input_audio": {"data": IMAGE, "format": "wav"}}).encode()
    assert MEDIA_TOKENS < estimated_prompt_tokens(raw) < MEDIA_TOKENS + 30


def test_long_prose_is_not_taken_for_media():
    raw = json.dumps({"base64": "is mentioned", "content": "word " * 1_000}).encode()
    assert estimated_prompt_tokens(raw) > 1_000
