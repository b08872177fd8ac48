"""Every dialect that callers speak; a vendor is put behind all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.dialects.anthropic.codec import AnthropicCaller
from adapters.dialects.openai_chat.codec import OpenAIChatCaller
from adapters.dialects.openai_completions.codec import CompletionsCaller
from adapters.dialects.openai_responses.codec import ResponsesCaller
from adapters.dialects.translation import CallerCodec
from domain.catalog import Dialect

CALLERS: Final[Mapping[Dialect, CallerCodec]] = {
    Dialect.OPENAI_CHAT: OpenAIChatCaller(),
    Dialect.OPENAI_RESPONSES: ResponsesCaller(),
    Dialect.ANTHROPIC: AnthropicCaller(),
    Dialect.OPENAI_COMPLETIONS: CompletionsCaller(),
}
