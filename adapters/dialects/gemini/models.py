"""What Gemini's models take, by generation: a table, because the models list says less than a request needs.

Names hold the generation, gemini-2.5-flash-lite and gemini-3.1-pro-preview; a Gemini without a readable one counts as
new.  Sources: Google's pages on thinking, function calling and thought signatures.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

from msgspec import Struct

from domain.inference.conversation import Effort


class ThinkingStyle(StrEnum):
    NONE = "none"
    BUDGET = "budget"
    """`thinkingBudget`, in tokens."""
    LEVEL = "level"
    """`thinkingLevel`."""


class ModelRules(Struct, frozen=True, kw_only=True):
    thinking: ThinkingStyle = ThinkingStyle.NONE
    budget_least: int = 0
    """The smallest budget but none."""
    budget_most: int = 24_576
    thinks_always: bool = False
    """Thinking cannot be switched off."""
    levels: tuple[str, ...] = ()
    """From the least on."""
    penalties: bool = False
    """It takes presencePenalty and frequencyPenalty."""
    mixes: bool = False
    """Functions may stand beside the vendor's own search, and beside a demanded form of the answer."""
    signs_calls: bool = False
    """A call of the current turn without its thought signature is refused; ids of calls are kept."""
    draws: bool = False
    """It answers with pictures."""


_OLD: Final = ModelRules(penalties=True)
_PRO_25: Final = ModelRules(thinking=ThinkingStyle.BUDGET, budget_least=128, budget_most=32_768, thinks_always=True)
_FLASH_25: Final = ModelRules(thinking=ThinkingStyle.BUDGET, budget_least=1)
_LITE_25: Final = ModelRules(thinking=ThinkingStyle.BUDGET, budget_least=512)
_PRO: Final = ModelRules(
    thinking=ThinkingStyle.LEVEL, levels=("LOW", "HIGH"), thinks_always=True, mixes=True, signs_calls=True
)
_PRO_31: Final = ModelRules(
    thinking=ThinkingStyle.LEVEL, levels=("LOW", "MEDIUM", "HIGH"), thinks_always=True, mixes=True, signs_calls=True
)
_FLASH: Final = ModelRules(
    thinking=ThinkingStyle.LEVEL,
    levels=("MINIMAL", "LOW", "MEDIUM", "HIGH"),
    thinks_always=True,
    mixes=True,
    signs_calls=True,
)
_DRAWS: Final = ModelRules(draws=True)
_DRAWS_THINKING: Final = ModelRules(draws=True, mixes=True)
_OTHERS: Final = ModelRules()
"""Gemma and what else is served beside Gemini."""

BUDGETS: Final = {
    Effort.MINIMAL: 1_024,
    Effort.LOW: 2_048,
    Effort.MEDIUM: 8_192,
    Effort.HIGH: 16_384,
    Effort.XHIGH: 32_768,
    Effort.MAX: 65_536,
}
"""Tokens for models that are told a budget where the caller named an effort, and the other way round."""
_STEPS: Final = {
    Effort.NONE: "MINIMAL",
    Effort.MINIMAL: "MINIMAL",
    Effort.LOW: "LOW",
    Effort.MEDIUM: "MEDIUM",
    Effort.HIGH: "HIGH",
    Effort.XHIGH: "HIGH",
    Effort.MAX: "HIGH",
}
_ORDER: Final = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_GENERATION: Final = re.compile(r"gemini-(\d{1,2})(?:\.(\d{1,2}))?")


@lru_cache(maxsize=1_024)
def rules_of(vendor_model: str) -> ModelRules:
    name = vendor_model.lower()
    if "gemini" not in name:
        return _OTHERS
    generation = generation_of(name)
    if "image" in name:
        return _DRAWS_THINKING if generation >= (3, 0) else _DRAWS
    if generation < (2, 5):
        return _OLD
    if generation < (3, 0):
        return _LITE_25 if "lite" in name else _FLASH_25 if "flash" in name else _PRO_25
    if "flash" in name:
        return _FLASH
    return _PRO if generation < (3, 1) else _PRO_31


def generation_of(name: str) -> tuple[int, int]:
    found = _GENERATION.search(name)
    return (1_000, 0) if found is None else (int(found[1]), int(found[2] or 0))


def level_for(rules: ModelRules, effort: Effort) -> str:
    """The model's own level that is nearest to an effort, from above where there are two."""
    wanted = _ORDER.index(_STEPS[effort])
    known = [level for level in rules.levels if _ORDER.index(level) >= wanted]
    return known[0] if known else rules.levels[-1]


def effort_for(budget_tokens: int) -> Effort:
    """The effort whose budget comes nearest from above."""
    return next((effort for effort, tokens in BUDGETS.items() if budget_tokens <= tokens), Effort.MAX)
