"""Groq."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

GROQ = OpenAICompatible(
    slug="groq",
    base_url="https://api.groq.com/openai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_SPEECH,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.OPENAI_TRANSLATIONS,
        }
    ),
    docs="https://console.groq.com/docs/api-reference",
    dropped_fields=frozenset({"logprobs", "top_logprobs", "logit_bias", "frequency_penalty", "presence_penalty"}),
    answers_max=1,
    quirks=Quirks(
        extension="x_groq",
        text_parts=True,
        top_k=False,
        # The model wrote a call that is none; another vendor's may do better.
        fault_words=FaultWords(by_word=(("tool_use_failed", FaultKind.MALFORMED),)),
    ),
)
