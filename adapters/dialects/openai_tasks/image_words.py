"""How vendors of images say what OpenAI's request says: sizes as sides or ratios, base64 under another name.

Everything that a vendor shares with OpenAI passes unchanged; only these members are rewritten, and what a vendor
cannot be told is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import gcd
from typing import Final

import msgspec
from msgspec import Struct

from adapters.dialects.json_members import edit, members
from adapters.dialects.request_members import raw_member

RATIOS: Final[Mapping[str, str]] = {"1792x1024": "16:9", "1024x1792": "9:16"}
"""OpenAI's older sizes, which are only about what they are called."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class ImageWords(Struct, frozen=True, kw_only=True):
    """Where a vendor's words differ from OpenAI's."""

    sides: bool = False
    """`width` and `height` instead of `size`."""
    ratio: bool = False
    """`aspect_ratio` instead of `size`."""
    base64: str | None = "b64_json"
    """What `response_format` calls bytes in the answer; None where the vendor takes no such member."""

    def written(self, body: bytes) -> tuple[bytes, list[str]]:
        """The request in the vendor's words, and the names of what it cannot be told."""
        parts = members(body)
        remove: set[str] = set()
        add: dict[str, bytes] = {}
        replace: dict[str, bytes] = {}
        dropped: list[str] = []
        size = _text(raw_member(parts, "size"))
        if size is not None and (self.sides or self.ratio):
            remove.add("size")
            found = _SIZE.fullmatch(size.lower())
            if found is not None and self.sides:
                add |= {"width": found[1].encode(), "height": found[2].encode()}
            elif found is not None:
                add["aspect_ratio"] = msgspec.json.encode(aspect_ratio(int(found[1]), int(found[2])))
            elif size != "auto":
                dropped.append("size")
        wanted = _text(raw_member(parts, "response_format"))
        if wanted is not None and self.base64 is None:
            remove.add("response_format")
            if wanted == "url":
                dropped.append("response_format")
        elif wanted == "b64_json" and self.base64 != wanted:
            replace["response_format"] = msgspec.json.encode(self.base64)
        add = {name: value for name, value in add.items() if name not in parts.values}
        return edit(body, parts, replace=replace, remove=remove, add=add), dropped


OPENAI_WORDS: Final = ImageWords()


def aspect_ratio(width: int, height: int) -> str:
    """In lowest terms, such as 3:2."""
    named = RATIOS.get(f"{width}x{height}")
    if named is not None:
        return named
    common = gcd(width, height) or 1
    return f"{width // common}:{height // common}"


def _text(raw: bytes | None) -> str | None:
    if raw is None or raw[:1] != b'"':
        return None
    return msgspec.json.decode(raw, type=str)
