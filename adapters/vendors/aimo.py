"""AIMO's network of providers; off until the operator switches it on, because nobody has seen it answer lately."""

from typing import Any

from adapters.vendors.listings import ModelsList
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible
from domain.ports.vendors import Listing


def _first_provider(row: dict[str, Any]) -> str:
    """A model is asked for by the key of one of its providers and its name."""
    keys = [each.get("id") for each in row.get("providers") or () if isinstance(each, dict)]
    name, key = row.get("name"), next((key for key in keys if isinstance(key, str) and key), None)
    return f"{key}:{name}" if key and isinstance(name, str) and name else ""


AIMO = OpenAICompatible(
    slug="aimo",
    base_url="https://beta.aimo.network/api/v1",
    docs="https://aimo.network",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    listing=Listing(on=False),
    # The unit of its prices is not proven, so that none is read.
    models=ModelsList(id_of=_first_provider),
)
