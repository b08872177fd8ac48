"""OpenAI."""

from adapters.vendors.openai_compatible import OpenAICompatible

OPENAI = OpenAICompatible(
    slug="openai",
    base_url="https://api.openai.com/v1",
    docs="https://platform.openai.com/docs/api-reference/chat",
)
