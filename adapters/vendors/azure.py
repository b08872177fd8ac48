"""Azure OpenAI by its v1 API, where a model is called by the name of its deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from adapters.transport.http import VendorHttp
from adapters.vendors.openai import OPENAI
from adapters.vendors.openai_compatible import OpenAICompatible, OpenAICompatibleVendor
from domain.catalog import Dialect
from domain.ports.vendors import ListedModel

AZURE: Final = OpenAICompatible(
    slug="azure",
    base_url="",
    docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
    key_names=("AZURE_OPENAI_API_KEY",),
    key_header="api-key",
    key_prefix="",
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
    quirks=OPENAI.quirks,
)
AZURE_ENTRA: Final = replace(AZURE, key_header="Authorization", key_prefix="Bearer ")
"""Opened by an access token of Entra ID (scope https://cognitiveservices.azure.com/.default) instead of a key."""


def base_url_of(resource: str) -> str:
    """Of a resource's name, as the portal shows it."""
    return f"https://{resource}.openai.azure.com/openai/v1"


class AzureVendor(OpenAICompatibleVendor):
    """As any vendor of OpenAI's dialect, but for its list: the models of a resource are its deployments, which the
    operator names, because the vendor's list has what could be deployed."""

    def __init__(
        self, vendor: OpenAICompatible, base_url: str, api_key: str, http: VendorHttp, deployments: Sequence[str]
    ) -> None:
        """`deployments`: names, each perhaps with the model that it is of: my-mini=openai/gpt-5.2-mini."""
        super().__init__(vendor, base_url, api_key, http)
        self._deployments = [_deployed(text) for text in deployments]

    async def list_models(self) -> list[ListedModel]:
        return self._deployments


def _deployed(text: str) -> ListedModel:
    name, _, model = (part.strip() for part in text.partition("="))
    # A deployment is most often called as the model is.
    canonical = model or f"openai/{name}"
    return ListedModel(vendor_model=name, canonical=canonical)
