"""HuggingFace's router to many providers; a suffix of the model's id chooses one."""

from typing import Any

from adapters.catalog.price_units import ListedPrice
from adapters.dialects.openai_chat.quirks import Quirks
from adapters.vendors.listings import ModelsList, dearest, per_million
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible

_of_provider = per_million(input="input", output="output")


def _dearest_provider(row: dict[str, Any]) -> ListedPrice:
    """The router takes the fastest of the living, whatever that one costs."""
    providers = [each for each in row.get("providers") or () if isinstance(each, dict)]
    return dearest(_of_provider(each) for each in providers if each.get("status") == "live")


HUGGINGFACE = OpenAICompatible(
    slug="huggingface",
    base_url="https://router.huggingface.co/v1",
    docs="https://huggingface.co/docs/inference-providers",
    key_names=("HF_TOKEN", "HUG_API_KEY"),
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(price=_dearest_provider),
    quirks=Quirks(text_parts=True),
)
