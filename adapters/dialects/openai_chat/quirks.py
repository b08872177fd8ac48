"""How one vendor's OpenAI dialect differs from OpenAI's own, as data for its client and its codec."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from adapters.dialects.openai_chat.errors import USUAL, FaultWords

COMMON_EFFORTS: Final[Mapping[str, str]] = MappingProxyType({"minimal": "low", "xhigh": "high", "max": "high"})
"""Most reasoning models know low, medium and high, and to switch it off."""


class ReasoningWish(StrEnum):
    """In which words a vendor is told how long to think."""

    EFFORT = "reasoning_effort"
    OBJECT = "reasoning"
    """`reasoning`: {effort, max_tokens, exclude}."""
    THINKING = "thinking"
    """`thinking`: {type}."""
    SWITCH = "enable_thinking"
    """`chat_template_kwargs`: {enable_thinking}."""
    FLAG = "flag"
    """`enable_thinking` itself."""


class ReasoningBack(StrEnum):
    """Where a vendor wants its earlier reasoning to be sent back; DROPPED for a vendor that refuses it."""

    DROPPED = ""
    REASONING = "reasoning"
    CONTENT = "reasoning_content"
    DETAILS = "reasoning_details"
    """With seals, unchanged; what has none goes back as `reasoning`."""
    CHUNKS = "chunks"
    """As chunks of the content list."""


class ToolChoices(StrEnum):
    """Which forms of `tool_choice` a vendor knows."""

    ALL = "all"
    NAMED = "named"
    """auto, none, required and one function; of several allowed ones only these are sent as tools."""
    ANY = "any"
    """As NAMED, with `any` for required."""
    FREE = "free"
    """auto and none alone."""


class Quirks(Struct, frozen=True, kw_only=True):
    """The defaults are what most servers that are not OpenAI's understand."""

    extension: str = ""
    """A member of its chunks in which usage and errors may be, too."""
    fault_words: FaultWords = USUAL
    family: str = ""
    """Whose seals it writes, for a vendor that seals its reasoning itself."""
    output_limit_field: str = "max_tokens"
    asks_for_usage: bool = True
    """It takes `stream_options.include_usage`."""
    developer_role: bool = False
    text_parts: bool = False
    """It reads lists of text parts where a string would do."""
    custom_tools: bool = False
    stored_files: bool = False
    """It keeps files, under the ids that callers of OpenAI's dialects send."""
    files_in: bool = False
    audio_in: bool = False
    cache_field: str = ""
    """The member of a content part that marks a cache's end: cache_control, prompt_cache_breakpoint."""
    tool_choices: ToolChoices = ToolChoices.NAMED
    top_k: bool = True
    verbosity: bool = False
    web_search: bool = False
    """It knows `web_search_options`."""
    reasoning_wishes: tuple[ReasoningWish, ...] = (ReasoningWish.EFFORT,)
    efforts: Mapping[str, str] = COMMON_EFFORTS
    """Efforts that it does not know -> the nearest that it does; "" where there is none."""
    reasoning_back: ReasoningBack = ReasoningBack.DROPPED
    user_after_tool: bool = True
    """It takes a user's message right behind a tool's result."""
    tool_id_length: int = 0
    """Ids of tool calls are this many letters and digits; 0 for any."""
    think_tags: bool = True
    """Reasoning may stand in the text between <think> and </think>."""
    think_opened: tuple[str, ...] = ()
    """Parts of the names of models whose prompt opens the tag already, so that only </think> comes."""


STANDARD: Final = Quirks()
