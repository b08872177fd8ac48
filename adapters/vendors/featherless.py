"""Featherless: tens of thousands of open models for a flat fee, so that its list has no prices."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish, ToolChoices
from adapters.vendors.listings import ModelsList, Paging
from adapters.vendors.openai_compatible import OLDER_LIMIT, TAG_OPENED, OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

FEATHERLESS = OpenAICompatible(
    slug="featherless",
    base_url="https://api.featherless.ai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
        }
    ),
    docs="https://featherless.ai/docs",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(paging=Paging.NUMBER, page_size=1_000),
    quirks=Quirks(
        tool_choices=ToolChoices.FREE,
        think_opened=TAG_OPENED,
        reasoning_wishes=(ReasoningWish.SWITCH,),
        # 403 is a gated model, or one that the plan does not have; a bad key is 401.
        fault_words=FaultWords({403: FaultKind.MODEL_MISSING}),
    ),
)
