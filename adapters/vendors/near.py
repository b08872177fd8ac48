"""NEAR AI: models in confidential machines."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish
from adapters.vendors.listings import ModelsList, per_unit
from adapters.vendors.openai_compatible import TAG_OPENED, OpenAICompatible
from domain.catalog import Dialect

NEAR = OpenAICompatible(
    slug="near",
    base_url="https://cloud-api.near.ai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.OPENAI_IMAGE_EDITS,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.RERANK,
        }
    ),
    docs="https://docs.near.ai",
    key_names=("NEARAI_API_KEY",),
    # Its list has every price twice; `prompt` and `completion` are decimal texts, `input` and `output` are floats.
    models=ModelsList(price=per_unit),
    quirks=Quirks(think_opened=TAG_OPENED, reasoning_wishes=(ReasoningWish.SWITCH, ReasoningWish.EFFORT)),
)
