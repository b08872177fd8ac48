"""Portkey: a gateway before the operator's own vendors; models are named `@slug/model`."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

PORTKEY = OpenAICompatible(
    slug="portkey",
    base_url="https://api.portkey.ai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.OPENAI_IMAGE_EDITS,
            Dialect.OPENAI_SPEECH,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.OPENAI_TRANSLATIONS,
        }
    ),
    docs="https://portkey.ai/docs/api-reference/inference-api/chat",
    key_header="x-portkey-api-key",
    key_prefix="",
    # 246: answered, although a guardrail that only watches did not like it; 446: a guardrail refused.
    accepted_statuses=frozenset({200, 246}),
    quirks=Quirks(
        text_parts=True, files_in=True, audio_in=True, fault_words=FaultWords({446: FaultKind.CONTENT_POLICY})
    ),
)
