"""How many tokens a text is, roughly, without its vendor's vocabulary.

Calibrated by bytes and script: English prose and code run at about four bytes a token, JSON and markup at about three,
scripts outside ASCII at about two and a half bytes a token in UTF-8.  Estimates reserve credit and rate limits; charges
use the vendor's own count wherever it gives one.
"""

from __future__ import annotations

import re

ASCII_BYTES_PER_TOKEN_X10 = 38
OTHER_BYTES_PER_TOKEN_X10 = 25
MEDIA_TOKENS = 1_600
"""Set aside for one inline image, sound or file, whose base64 text says nothing about its tokens."""

_INLINE_MEDIA = re.compile(rb'"(?:data:[^"\\]{256,}|[A-Za-z0-9+/=_-]{1024,})"')
_ASCII = bytes(range(128))


def estimated_tokens(text: bytes) -> int:
    """An estimate of the tokens of UTF-8 `text`; at least 1 for anything at all."""
    other = len(text.translate(None, _ASCII)) if not text.isascii() else 0
    tokens_x10 = (len(text) - other) * 100 // ASCII_BYTES_PER_TOKEN_X10 + other * 100 // OTHER_BYTES_PER_TOKEN_X10
    return -(-tokens_x10 // 10)


def estimated_prompt_tokens(raw: bytes) -> int:
    """An estimate for a raw JSON prompt, inline media counted by the piece."""
    if b"base64" in raw or b'"data"' in raw or b'"file_data"' in raw:
        # Some languages' encoders write every slash with a backslash, which base64 is full of.
        raw = raw.replace(b"\\/", b"/")
        raw, media = _INLINE_MEDIA.subn(b"", raw)
    else:
        media = 0
    return estimated_tokens(raw) + media * MEDIA_TOKENS
