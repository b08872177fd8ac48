"""What Anthropic's models take, by generation: a table, because the models list says less than a request needs.

Names hold the generation in two ways, claude-3-7-sonnet-20250219 and claude-opus-4-8; prefixes and suffixes of other
platforms do not matter.  A Claude without a readable generation counts as new.  A model of any other family behind
this dialect counts as of the generation that such servers imitate: it thinks by budget and takes every parameter.
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
    """`thinking: {type: enabled, budget_tokens}`."""
    ADAPTIVE = "adaptive"
    """`thinking: {type: adaptive}` with `output_config.effort`."""


class ModelRules(Struct, frozen=True, kw_only=True):
    thinking: ThinkingStyle
    samples: bool = True
    """It takes temperature, top_p and top_k; others refuse any value but the default."""
    samples_both: bool = True
    """It takes temperature and top_p together."""
    prefills: bool = True
    """It goes on with a last message of the assistant's."""
    strict_tools: bool = True


_NEWEST: Final = (1_000, 0)
_RULES: Final[tuple[tuple[tuple[int, int], ModelRules], ...]] = (
    ((0, 0), ModelRules(thinking=ThinkingStyle.NONE, strict_tools=False)),
    ((3, 7), ModelRules(thinking=ThinkingStyle.BUDGET, strict_tools=False)),
    ((4, 1), ModelRules(thinking=ThinkingStyle.BUDGET, samples_both=False, strict_tools=False)),
    ((4, 5), ModelRules(thinking=ThinkingStyle.BUDGET, samples_both=False)),
    ((4, 6), ModelRules(thinking=ThinkingStyle.ADAPTIVE, samples_both=False, prefills=False)),
    ((4, 7), ModelRules(thinking=ThinkingStyle.ADAPTIVE, samples=False, prefills=False)),
)
"""From this generation on, the newest last."""
_OTHERS: Final = ModelRules(thinking=ThinkingStyle.BUDGET)

BUDGETS: Final = {
    Effort.MINIMAL: 1_024,
    Effort.LOW: 2_048,
    Effort.MEDIUM: 8_192,
    Effort.HIGH: 16_384,
    Effort.XHIGH: 32_768,
    Effort.MAX: 65_536,
}
"""Tokens for models that are told a budget where the caller named an effort, and the other way round."""
EFFORTS: Final = {
    Effort.MINIMAL: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}

_GENERATION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


@lru_cache(maxsize=1_024)
def rules_of(vendor_model: str) -> ModelRules:
    name = vendor_model.lower()
    if "claude" not in name:
        return _OTHERS
    found = _GENERATION.search(name)
    generation = _NEWEST if found is None else (int(found[1]), int(found[2] or 0))
    if found is None and re.search(r"claude-(?:v\d|instant|2)", name):
        generation = (2, 0)
    return next(rules for since, rules in reversed(_RULES) if since <= generation)


def effort_for(budget_tokens: int) -> str:
    """The effort whose budget comes nearest from above."""
    return next((EFFORTS[effort] for effort, tokens in BUDGETS.items() if budget_tokens <= tokens), "max")
