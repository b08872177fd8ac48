"""Mistral; it answers 422 to fields that it does not know."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack, ToolChoices
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible, required_as_any
from domain.catalog import Dialect

MISTRAL = OpenAICompatible(
    slug="mistral",
    base_url="https://api.mistral.ai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.OPENAI_MODERATIONS,
        }
    ),
    docs="https://docs.mistral.ai/api",
    output_limit_field="max_tokens",
    renamed_fields={**OLDER_LIMIT, "seed": "random_seed"},
    rewritten_fields={"tool_choice": required_as_any},
    dropped_fields=frozenset(
        {
            "logit_bias",
            "logprobs",
            "modalities",
            "moderation",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options",
            "top_k",
            "top_logprobs",
            "user",
            "verbosity",
            "web_search_options",
        }
    ),
    asks_for_usage=False,
    quirks=Quirks(
        family="mistral",
        text_parts=True,
        tool_choices=ToolChoices.ANY,
        top_k=False,
        reasoning_back=ReasoningBack.CHUNKS,
        user_after_tool=False,
        # Older models refuse ids of any other form.
        tool_id_length=9,
    ),
)
