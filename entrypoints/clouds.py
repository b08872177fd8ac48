"""What the clouds' vendors need beside a key: projects, regions, deployments, and credentials of several parts.

The names are those that the clouds' own tools use, because people have them set already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from domain.keys import Secret
from entrypoints.environment import Reader

NAMES: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_DEPLOYMENTS",
        "AZURE_RESOURCE_NAME",
        "BEDROCK_MODELS",
        "GCE_METADATA_HOST",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_LOCATION",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
        "GOOGLE_VERTEX_CREDENTIALS_JSON",
        "VERTEX_MODELS",
    }
)
"""The variables beside keys and addresses."""
CREDENTIAL_BYTES_MAX: Final = 64 * 1024
LOCATION: Final = "global"
"""Of Google's cloud, where none is set: served wherever there is room."""


class GoogleCloud(Struct, frozen=True, kw_only=True):
    base_url: str = ""
    """Instead of the cloud's own address."""
    credential: Secret | None = None
    """The file that GOOGLE_APPLICATION_CREDENTIALS names."""
    project: str = ""
    location: str = LOCATION
    impersonate: str = ""
    """The e-mail address of a service account to act as."""
    metadata_host: str = ""
    models: tuple[str, ...] = ()


class Azure(Struct, frozen=True, kw_only=True):
    base_url: str = ""
    """Instead of the cloud's own address."""
    resource: str = ""
    token: Secret | None = None
    """Of Entra ID, instead of a key."""
    deployments: tuple[str, ...] = ()


class Aws(Struct, frozen=True, kw_only=True):
    base_url: str = ""
    """Instead of the cloud's own address."""
    access_key_id: str = ""
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    region: str = ""
    models: tuple[str, ...] = ()


class Clouds(Struct, frozen=True, kw_only=True):
    google: GoogleCloud = GoogleCloud()
    azure: Azure = Azure()
    aws: Aws = Aws()


def read_clouds(read: Reader) -> Clouds:
    """What is wrong becomes a problem of `read`'s."""
    azure = Azure(
        base_url=_address(read, "AZURE_BASE_URL"),
        resource=read.given("AZURE_RESOURCE_NAME") or "",
        token=read.secret("AZURE_AD_TOKEN"),
        deployments=_listed(read, "AZURE_DEPLOYMENTS"),
    )
    opened = azure.token or read.given("AZURE_API_KEY") or read.given("AZURE_OPENAI_API_KEY")
    if opened and not azure.deployments:
        read.refuse(
            "AZURE_DEPLOYMENTS",
            "is missing: the models of a resource are its deployments.",
            "Write their names, such as gpt-5.2,my-mini=openai/gpt-5.2-mini.",
        )
    if opened and not azure.resource and not read.given("AZURE_BASE_URL"):
        read.refuse("AZURE_RESOURCE_NAME", "is missing.", "Write the resource's name, as the portal shows it.")
    region = read.given("AWS_REGION") or read.given("AWS_DEFAULT_REGION") or ""
    bearer = read.given("AWS_BEARER_TOKEN_BEDROCK") or read.given("BEDROCK_API_KEY")
    if bearer and not region and not read.given("BEDROCK_BASE_URL"):
        read.refuse("AWS_REGION", "is missing.", "Write the region whose Bedrock to use, such as us-east-1.")
    return Clouds(
        google=GoogleCloud(
            base_url=_address(read, "VERTEX_BASE_URL"),
            credential=_file(read, "GOOGLE_APPLICATION_CREDENTIALS"),
            project=read.given("GOOGLE_CLOUD_PROJECT") or read.given("GOOGLE_VERTEX_PROJECT") or "",
            location=read.given("GOOGLE_CLOUD_LOCATION") or read.given("GOOGLE_VERTEX_LOCATION") or LOCATION,
            impersonate=read.given("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT") or "",
            metadata_host=read.given("GCE_METADATA_HOST") or "",
            models=_listed(read, "VERTEX_MODELS"),
        ),
        azure=azure,
        aws=Aws(
            base_url=_address(read, "BEDROCK_BASE_URL"),
            access_key_id=read.given("AWS_ACCESS_KEY_ID") or "",
            secret_access_key=read.secret("AWS_SECRET_ACCESS_KEY"),
            session_token=read.secret("AWS_SESSION_TOKEN"),
            region=region,
            models=_listed(read, "BEDROCK_MODELS"),
        ),
    )


def _listed(read: Reader, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (read.given(name) or "").split(",") if part.strip())


def _address(read: Reader, name: str) -> str:
    # What is wrong with it is told where the vendors' addresses are read.
    return (read.given(name) or "").rstrip("/")


def _file(read: Reader, name: str) -> Secret | None:
    path = read.given(name)
    if path is None:
        return None
    try:
        with Path(path).open(encoding="utf-8") as file:
            return Secret(file.read(CREDENTIAL_BYTES_MAX))
    except (OSError, UnicodeDecodeError):
        read.refuse(name, f"{path} cannot be read.", "Name the JSON file of a Google credential, or remove it.")
        return None
