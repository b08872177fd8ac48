"""Access tokens of Google's cloud, over a real socket: whose they are, how long they are kept, and who waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.transport.google_auth import (
    AuthorizedUser,
    CredentialsUnreadable,
    GoogleTokens,
    Impersonated,
    MetadataServer,
    TokenSource,
    read_credential,
)
from adapters.transport.http import VendorHttp
from domain.inference.faults import FaultKind, VendorFault
from tests.fakes.gemini_upstream import VertexUpstream
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def google() -> AsyncIterator[VertexUpstream]:
    async with VertexUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http() -> AsyncIterator[VendorHttp]:
    session = VendorHttp("google-auth")
    yield session
    await session.close()


def tokens(source: TokenSource, http: VendorHttp, clock: FakeClock) -> GoogleTokens:
    return GoogleTokens(source, http, clock, {"x-goog-user-project": "p"})


def account(google: VertexUpstream, **changed: Any) -> TokenSource:
    return read_credential(json.dumps({**google.credential, **changed})).source


async def test_a_service_account_signs_for_its_token(google: VertexUpstream, http: VendorHttp) -> None:
    own = tokens(account(google), http, FakeClock())

    assert await own.headers() == {"Authorization": "Bearer ya29.token-1", "x-goog-user-project": "p"}
    assert read_credential(json.dumps(google.credential)).project == google.PROJECT


async def test_a_key_whose_line_ends_were_spelt_out_is_read(google: VertexUpstream, http: VendorHttp) -> None:
    spelt = google.credential["private_key"].replace("\n", "\\n")
    assert "Authorization" in await tokens(account(google, private_key=spelt), http, FakeClock()).headers()


async def test_a_token_is_kept_renewed_ahead_of_time_and_never_used_too_late(
    google: VertexUpstream, http: VendorHttp
) -> None:
    clock = FakeClock()
    own = tokens(account(google), http, clock)
    first = await own.headers()
    clock.advance(3_600 - 301)
    assert await own.headers() == first
    assert google.tokens_given == 1

    # Five minutes before its end it still serves, while the next one is fetched.
    clock.advance(10)
    assert await own.headers() == first
    await google.wait_for_requests(2)
    await asyncio.sleep(0.05)
    second = await own.headers()
    assert second["Authorization"] == "Bearer ya29.token-2"

    # One minute before its end it is waited for.
    clock.advance(3_600 - 30)
    assert (await own.headers())["Authorization"] == "Bearer ya29.token-3"


async def test_all_who_need_a_token_at_once_wait_for_one(google: VertexUpstream, http: VendorHttp) -> None:
    own = tokens(account(google), http, FakeClock())

    found = await asyncio.gather(*(own.headers() for _ in range(20)))

    assert google.tokens_given == 1
    assert len({headers["Authorization"] for headers in found}) == 1


async def test_who_leaves_does_not_end_what_others_wait_for(google: VertexUpstream, http: VendorHttp) -> None:
    own = tokens(account(google), http, FakeClock())
    leaves = asyncio.create_task(own.headers())
    stays = asyncio.create_task(own.headers())
    await asyncio.sleep(0)
    leaves.cancel()

    assert "Authorization" in await stays
    with pytest.raises(asyncio.CancelledError):
        await leaves


async def test_a_refused_token_is_fetched_anew_once_for_all(google: VertexUpstream, http: VendorHttp) -> None:
    own = tokens(account(google), http, FakeClock())
    refused = await own.headers()

    fresh = await asyncio.gather(*(own.renewed(refused) for _ in range(5)))

    assert google.tokens_given == 2
    assert {headers["Authorization"] for headers in fresh if headers} == {"Bearer ya29.token-2"}
    # Who comes with the old one later gets what is there already.
    assert await own.renewed(refused) == fresh[0]
    assert google.tokens_given == 2


async def test_a_person_a_machine_and_another_account(google: VertexUpstream, http: VendorHttp) -> None:
    clock = FakeClock()
    person = AuthorizedUser("id", "secret", "refresh-me", f"{google.origin}/token")
    assert (await tokens(person, http, clock).headers())["Authorization"].startswith("Bearer ya29.")
    machine = MetadataServer(google.origin.removeprefix("http://"))
    assert (await tokens(machine, http, clock).headers())["Authorization"].startswith("Bearer ya29.")
    url = f"{google.origin}/v1/projects/-/serviceAccounts/other@x.iam.gserviceaccount.com:generateAccessToken"
    acting = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": url,
        "source_credentials": google.credential,
        "delegates": ["via@x"],
    }
    source = read_credential(json.dumps(acting)).source
    assert isinstance(source, Impersonated)
    assert (await tokens(source, http, clock).headers())["Authorization"].startswith("Bearer ya29.")
    sent = next(r for r in google.requests if r.path.endswith(":generateAccessToken"))
    assert sent.json["delegates"] == ["via@x"]


async def test_a_refused_credential_is_the_operators_to_mend(google: VertexUpstream, http: VendorHttp) -> None:
    async with VertexUpstream() as other:
        wrong = account(google, private_key=other.credential["private_key"])
        with pytest.raises(VendorFault) as refusal:
            await tokens(wrong, http, FakeClock()).headers()
    assert refusal.value.kind is FaultKind.CREDENTIAL_REJECTED
    assert "invalid_grant" in refusal.value.message
    assert "PRIVATE" not in refusal.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "not the JSON"),
        ("{}", "its type is none of"),
        ('{"type":"external_account"}', "its type is none of"),
        ('{"type":"service_account"}', "no client_email"),
        ('{"type":"service_account","client_email":"a","private_key":"canary"}', "no PEM key"),
        ('{"type":"authorized_user"}', "refresh_token"),
        ('{"type":"impersonated_service_account"}', "impersonation_url"),
    ],
)
def test_what_is_no_credential_is_told_without_showing_it(text: str, words: str) -> None:
    with pytest.raises(CredentialsUnreadable, match=words) as refusal:
        read_credential(text)
    assert "canary" not in str(refusal.value)
