"""vLLM, on the operator's own machines."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish
from adapters.vendors.openai_compatible import TAG_OPENED, OpenAICompatible
from domain.catalog import Dialect

VLLM = OpenAICompatible(
    slug="vllm",
    base_url="http://127.0.0.1:8000/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.RERANK,
        }
    ),
    docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    needs_key=False,
    output_limit_field="max_tokens",
    quirks=Quirks(text_parts=True, audio_in=True, think_opened=TAG_OPENED, reasoning_wishes=(ReasoningWish.SWITCH,)),
)
