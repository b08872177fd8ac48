"""The vendor that a request is written for, and what it could not be told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from adapters.dialects.openai_chat.quirks import Quirks
from domain.catalog import Dialect
from domain.inference.conversation import CacheMark, Conversation, Extras, ToolResult

Json = dict[str, Any]

LOSSES: Final[Mapping[str, str]] = {
    "cache_control": "Most vendors cache prompts unasked and know no marks; four at most are sent to those that do.",
    "citations": "A message that is sent back has no place for the sources of its text.",
    "context": "What an attached document says about itself beside its name.",
    "format": "A custom tool's grammar is told to the model in words where the vendor has no custom tools.",
    "logprobs": "A translated answer has no place for them.",
    "metadata": "Only an answer that OpenAI stores carries it.",
    "reasoning": "Not every vendor can be told how long to think, and not in every word.",
    "service_tier": "A tier of another dialect means nothing to the vendor.",
    "thinking": "A vendor takes back its own seals alone, and many take back no reasoning at all.",
    "top_k": "Some vendors do not know it.",
    "verbosity": "Only OpenAI knows it.",
    "web_search": "Only some vendors search the web themselves.",
}
"""What this dialect cannot say, or not to every vendor, and why; dropped and told to the caller by these names.

Further things change their place: images in a tool's result come in a user message behind it, a failed result is
marked in words, and an answer's text stands before its tool calls.  Tools and blocks that another dialect's server
runs or writes are left out and named as `dialect:kind`.
"""

_NAMES: Final[Mapping[tuple[str, Dialect], str]] = {
    ("reasoning", Dialect.OPENAI_CHAT): "reasoning_effort",
    ("reasoning", Dialect.ANTHROPIC): "thinking",
    ("reasoning", Dialect.GEMINI): "generationConfig.thinkingConfig",
    ("thinking", Dialect.OPENAI_CHAT): "reasoning_details",
    ("thinking", Dialect.OPENAI_RESPONSES): "encrypted_content",
    ("thinking", Dialect.ANTHROPIC): "signature",
    ("thinking", Dialect.GEMINI): "thoughtSignature",
    ("logprobs", Dialect.GEMINI): "generationConfig.logprobs",
    ("logprobs", Dialect.OPENAI_RESPONSES): "top_logprobs",
    ("top_k", Dialect.GEMINI): "generationConfig.topK",
    ("cache_control", Dialect.OPENAI_RESPONSES): "prompt_cache_breakpoint",
    ("verbosity", Dialect.OPENAI_RESPONSES): "text.verbosity",
}
"""What a caller of a dialect calls it, where that differs."""

CACHE_MARKS_MAX: Final = 4


class Target:
    """One request's vendor."""

    def __init__(self, quirks: Quirks, dialect: Dialect, conversation: Conversation) -> None:
        self.quirks = quirks
        self.dialect = dialect
        """The caller's."""
        self.dropped: dict[str, None] = {}
        self._marks_to_skip = max(0, _marks(conversation) - CACHE_MARKS_MAX) if quirks.cache_field else 0

    def drop(self, name: str) -> None:
        """Name what is left out, as its caller knows it."""
        self.dropped[_NAMES.get((name, self.dialect), name)] = None

    def own_members(self, extras: Extras | None) -> Json:
        """A request's members that this dialect alone knows; those of another are named as left out."""
        for name in () if extras is None or extras.dialect is Dialect.OPENAI_CHAT else extras.members:
            self.drop(name)
        return own(extras)

    def mark(self, part: Json, cache: CacheMark | None) -> None:
        """The vendor's mark of a cache's end; the last ones count most, because they cover the earlier."""
        if cache is None:
            return
        field = self.quirks.cache_field
        if not field or self._marks_to_skip > 0:
            self._marks_to_skip -= 1
            self.drop("cache_control")
        elif field == "cache_control":
            part[field] = {"type": "ephemeral"} | ({"ttl": "1h"} if cache.ttl in ("1h", "12h") else {})
        else:
            part[field] = {"mode": "explicit"} | ({"ttl": cache.ttl} if cache.ttl in ("30m", "12h") else {})


def own(extras: Extras | None) -> Json:
    return dict(extras.members) if extras is not None and extras.dialect is Dialect.OPENAI_CHAT else {}


def _marks(conversation: Conversation) -> int:
    """How many cache marks it has; those of results' parts too, which become parts of their own."""
    blocks = [block for turn in conversation.turns for block in turn.blocks]
    inner = [part for block in blocks if isinstance(block, ToolResult) for part in block.content]
    marked = [*blocks, *inner, *conversation.tools]
    return sum(getattr(each, "cache", None) is not None for each in marked)


def short(text: str, length_max: int) -> str:
    """Itself, or where it is too long a name of it that stays the same."""
    return text if len(text) <= length_max else hashlib.sha256(text.encode()).hexdigest()[:length_max]
