"""How Bedrock's models are told to think, by family: Converse itself has no word for it.

Names hold the family, perhaps behind a region: us.anthropic.claude-opus-4-8, amazon.nova-2-lite-v1:0.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache


class Family(StrEnum):
    ANTHROPIC = "anthropic"
    """`thinking` and `output_config`, as in Anthropic's own dialect."""
    OPENAI = "openai"
    """`reasoning_effort`."""
    NOVA = "nova"
    """`reasoningConfig`, from the second generation on."""
    OTHER = "other"


@lru_cache(maxsize=1_024)
def family_of(vendor_model: str) -> Family:
    name = vendor_model.lower()
    if "anthropic." in name or "claude" in name:
        return Family.ANTHROPIC
    if "openai." in name or "gpt-oss" in name:
        return Family.OPENAI
    return Family.NOVA if "nova-2" in name else Family.OTHER
