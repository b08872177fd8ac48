"""Cerebras."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack
from adapters.vendors.listings import ModelsList, per_unit
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.inference.faults import FaultKind

CEREBRAS = OpenAICompatible(
    slug="cerebras",
    base_url="https://api.cerebras.ai/v1",
    docs="https://inference-docs.cerebras.ai/api-reference/chat-completions",
    models=ModelsList(path="models?format=openrouter", price=per_unit),
    quirks=Quirks(
        top_k=False,
        reasoning_back=ReasoningBack.REASONING,
        fault_words=FaultWords(by_word=(("quota_exceeded", FaultKind.RATE_LIMITED),)),
    ),
)
