"""OpenAI."""

from adapters.dialects.openai_chat.quirks import Quirks, ToolChoices
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect

OPENAI = OpenAICompatible(
    slug="openai",
    base_url="https://api.openai.com/v1",
    # Its models always answer with bytes, and refuse to be told so.
    image_words=ImageWords(base64=None),
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.OPENAI_IMAGE_EDITS,
            Dialect.OPENAI_SPEECH,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.OPENAI_TRANSLATIONS,
            Dialect.OPENAI_MODERATIONS,
        }
    ),
    docs="https://platform.openai.com/docs/api-reference/chat",
    quirks=Quirks(
        developer_role=True,
        text_parts=True,
        custom_tools=True,
        stored_files=True,
        files_in=True,
        audio_in=True,
        tool_choices=ToolChoices.ALL,
        top_k=False,
        verbosity=True,
        web_search=True,
        efforts={},
        think_tags=False,
    ),
)
