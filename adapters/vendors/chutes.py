"""Chutes: open models on vLLM and SGLang."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish
from adapters.vendors.listings import ModelsList, per_million
from adapters.vendors.openai_compatible import OLDER_LIMIT, TAG_OPENED, OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

CHUTES = OpenAICompatible(
    slug="chutes",
    base_url="https://llm.chutes.ai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
        }
    ),
    docs="https://chutes.ai/docs",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(price=per_million(input="prompt", output="completion", cache_read="input_cache_read")),
    quirks=Quirks(
        think_opened=TAG_OPENED,
        reasoning_wishes=(ReasoningWish.SWITCH,),
        fault_words=FaultWords(
            by_word=(("infra_overload", FaultKind.OVERLOADED), ("no_targets", FaultKind.OVERLOADED))
        ),
    ),
)
