"""The clouds' settings: what is on, what is missing, and that no secret is shown."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from adapters.system.clock import SystemClock
from entrypoints.environment import SettingsError
from entrypoints.settings import Settings, read_settings
from entrypoints.vendors import VENDOR_NAMES, Vendors
from tests.fakes.gemini_upstream import VertexUpstream

GOOD = {"GATEWAYZ_SECRETS": f"v1:{b64encode(bytes(range(32))).decode()}"}
USER = json.dumps(
    {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "canary-secret",
        "refresh_token": "canary-token",
        "quota_project_id": "mine",
    }
)


def settings(**environ: str) -> Settings:
    return read_settings({**GOOD, **environ}, VENDOR_NAMES)


def served(**environ: str) -> set[str]:
    vendors = Vendors(settings(**environ), SystemClock())
    return {str(slug) for slug in vendors.chat} - {"sandbox"}


def problem(**environ: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        served(**environ)
    (only,) = refusal.value.problems
    assert "canary" not in str(only)
    return only.name


def test_nothing_is_on_by_itself() -> None:
    assert served() == set()
    # What other programs of the machine use switches nothing on.
    assert served(AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="s") == set()
    assert served(AWS_REGION="us-east-1", GOOGLE_CLOUD_PROJECT="p") == set()


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"])
def test_gemini(name: str) -> None:
    assert served(**{name: "key"}) == {"gemini"}


def test_a_server_of_ones_own_that_speaks_gemini() -> None:
    row = {"slug": "own", "base_url": "http://127.0.0.1:1/v1beta", "wire": "gemini"}
    assert served(GATEWAYZ_VENDORS=json.dumps([row])) == {"own"}


def test_bedrock() -> None:
    assert served(AWS_BEARER_TOKEN_BEDROCK="key", AWS_REGION="us-east-1") == {"bedrock"}
    assert served(BEDROCK_API_KEY="key", AWS_DEFAULT_REGION="us-east-1") == {"bedrock"}
    account = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    assert served(**account, AWS_REGION="us-east-1") == {"bedrock"}
    assert problem(AWS_BEARER_TOKEN_BEDROCK="key") == "AWS_REGION"


def test_azure() -> None:
    assert served(AZURE_API_KEY="key", AZURE_RESOURCE_NAME="mine", AZURE_DEPLOYMENTS="gpt-5.2") == {"azure"}
    assert served(AZURE_AD_TOKEN="token", AZURE_RESOURCE_NAME="mine", AZURE_DEPLOYMENTS="gpt-5.2") == {"azure"}
    assert problem(AZURE_API_KEY="key", AZURE_RESOURCE_NAME="mine") == "AZURE_DEPLOYMENTS"
    assert problem(AZURE_API_KEY="key", AZURE_DEPLOYMENTS="gpt-5.2") == "AZURE_RESOURCE_NAME"


def test_vertex(tmp_path: Path) -> None:
    assert served(GOOGLE_VERTEX_CREDENTIALS_JSON=USER) == {"vertex"}
    assert served(GOOGLE_VERTEX_CREDENTIALS_JSON="metadata", GOOGLE_CLOUD_PROJECT="p") == {"vertex"}
    file = tmp_path / "google.json"
    file.write_text(USER)
    assert served(GOOGLE_APPLICATION_CREDENTIALS=str(file)) == {"vertex"}
    assert problem(GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none")) == "GOOGLE_APPLICATION_CREDENTIALS"
    assert problem(GOOGLE_VERTEX_CREDENTIALS_JSON="metadata") == "GOOGLE_CLOUD_PROJECT"
    assert problem(GOOGLE_VERTEX_CREDENTIALS_JSON='{"canary": 1}') == "GOOGLE_VERTEX_CREDENTIALS_JSON"


def test_a_service_account_names_its_project() -> None:
    upstream = VertexUpstream()
    credential = {**upstream.credential_at("http://127.0.0.1:1"), "project_id": "named"}
    assert served(GOOGLE_VERTEX_CREDENTIALS_JSON=json.dumps(credential)) == {"vertex"}


def test_no_secret_is_shown() -> None:
    told = settings(
        AWS_ACCESS_KEY_ID="AKIA",
        AWS_SECRET_ACCESS_KEY="canary-aws",
        AWS_SESSION_TOKEN="canary-session",
        AZURE_AD_TOKEN="canary-entra",
        AZURE_RESOURCE_NAME="mine",
        AZURE_DEPLOYMENTS="a",
        GOOGLE_VERTEX_CREDENTIALS_JSON=USER,
    )
    assert "canary" not in repr(told)
    assert {"canary-aws", "canary-session", "canary-entra", USER} <= told.secret_texts()
