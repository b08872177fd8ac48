"""Ollama, on the operator's own machine; its cloud by OLLAMA_BASE_URL and a key."""

from adapters.dialects.openai_chat.quirks import Quirks, ToolChoices
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible
from domain.catalog import Dialect

OLLAMA = OpenAICompatible(
    slug="ollama",
    base_url="http://127.0.0.1:11434/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_EMBEDDINGS,
        }
    ),
    docs="https://docs.ollama.com/openai",
    needs_key=False,
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    quirks=Quirks(tool_choices=ToolChoices.FREE),
)
