"""Access tokens of Google's cloud, from what an operator may have: a service account's key, a user's refresh token, the
right to act as another service account, or the machine's own account.

A token is fetched once for all who wait for it, kept until shortly before it ends, and fetched anew where Google
refuses it all the same.  Nothing here logs: keys, assertions and tokens appear in no message.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from adapters.transport.http import ERROR_BYTES_MAX, VendorHttp
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.clock import Clock

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"
IAM_URI: Final = "https://iamcredentials.googleapis.com"
METADATA_HOST: Final = "metadata.google.internal"
LIFETIME_S: Final = 3_600
RENEW_S: Final = 300.0
"""So long before its end a token is fetched anew, while the old one still serves."""
TOO_LATE_S: Final = 60.0
"""So long before its end a token is used no more."""
TIMEOUT_S: Final = 20.0
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class CredentialsUnreadable(ValueError):
    """What the operator gave is no credential of Google's; the message says what to give, and shows none of it."""


class Credentials(Protocol):
    """What opens one of Google's doors."""

    async def headers(self) -> Mapping[str, str]:
        """Raises VendorFault where there is no access."""
        ...

    async def renewed(self, refused: Mapping[str, str]) -> Mapping[str, str] | None:
        """Others in place of headers that were refused with 401; None where there are none.  Raises VendorFault."""
        ...


class ApiKey:
    """The port `Credentials` for a key of Google's AI Studio."""

    def __init__(self, key: str) -> None:
        self._headers = {"x-goog-api-key": key} if key else {}

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    async def renewed(self, refused: Mapping[str, str]) -> Mapping[str, str] | None:
        return None


class Token(Struct, frozen=True):
    text: str
    lives_s: float

    def __repr__(self) -> str:
        return "Token(***)"


class TokenSource(Protocol):
    """Where tokens come from."""

    async def fetch(self, http: VendorHttp, clock: Clock) -> Token:
        """Raises VendorFault."""
        ...


class ServiceAccount:
    """A service account's own key: each token is asked for with a statement signed by it (RFC 7523)."""

    def __init__(self, email: str, key_id: str, private_key: str, token_uri: str = TOKEN_URI) -> None:
        """`private_key` in PEM.  Raises CredentialsUnreadable."""
        try:
            # Some ways to set a variable keep the key's line ends as two characters.
            key = load_pem_private_key(private_key.replace("\\n", "\n").encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise CredentialsUnreadable("the private_key in it is no PEM key") from None
        if not isinstance(key, RSAPrivateKey):
            raise CredentialsUnreadable("the private_key in it is no RSA key")
        self._key = key
        self._email = email
        self._key_id = key_id
        self._token_uri = token_uri

    async def fetch(self, http: VendorHttp, clock: Clock) -> Token:
        form = {"grant_type": _JWT_GRANT, "assertion": self._assertion(clock.now())}
        return await _token(http, self._token_uri, form)

    def _assertion(self, now: datetime) -> str:
        issued = int(now.timestamp())
        header = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        claims = {
            "iss": self._email,
            "scope": SCOPE,
            "aud": self._token_uri,
            "iat": issued,
            "exp": issued + LIFETIME_S,
        }
        signed = f"{_base64url(msgspec.json.encode(header))}.{_base64url(msgspec.json.encode(claims))}"
        return f"{signed}.{_base64url(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


class AuthorizedUser:
    """A person's consent, as `gcloud auth application-default login` stores it."""

    def __init__(self, client_id: str, client_secret: str, refresh_token: str, token_uri: str = TOKEN_URI) -> None:
        self._form = {
            "grant_type": "refresh_token",
            "client_id": client_id,
            "client_secret": client_secret,
            "refresh_token": refresh_token,
        }
        self._token_uri = token_uri

    async def fetch(self, http: VendorHttp, clock: Clock) -> Token:
        return await _token(http, self._token_uri, self._form)


class MetadataServer:
    """The account of the machine that the gateway runs on, inside Google's cloud."""

    def __init__(self, host: str = METADATA_HOST) -> None:
        self._url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"

    async def fetch(self, http: VendorHttp, clock: Clock) -> Token:
        answer = await http.get(self._url, {"Metadata-Flavor": "Google"}, TIMEOUT_S)
        try:
            return _read_token(answer.status, await answer.read(ERROR_BYTES_MAX))
        finally:
            answer.close()


class Impersonated:
    """Another service account, which the source may act as (role Service Account Token Creator)."""

    def __init__(self, source: TokenSource, url: str, delegates: tuple[str, ...] = ()) -> None:
        """`url` as in the credential: .../serviceAccounts/{email}:generateAccessToken."""
        self._source = source
        self._url = url
        self._body = msgspec.json.encode({"scope": [SCOPE], "lifetime": f"{LIFETIME_S}s", "delegates": list(delegates)})

    @staticmethod
    def url_of(email: str) -> str:
        return f"{IAM_URI}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"

    async def fetch(self, http: VendorHttp, clock: Clock) -> Token:
        own = await self._source.fetch(http, clock)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {own.text}"}
        answer = await http.post(self._url, headers, self._body, TIMEOUT_S)
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        if answer.status != 200:
            raise _refused(answer.status, body)
        try:
            told = msgspec.json.decode(body, type=_Impersonation)
            ends = datetime.fromisoformat(told.expire_time)
            return Token(told.access_token, (ends - clock.now()).total_seconds())
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError):
            raise VendorFault(FaultKind.MALFORMED, "Google's answer holds no access token") from None


class GoogleTokens:
    """The port `Credentials`: one principal's tokens, fetched once for all who need one."""

    def __init__(
        self, source: TokenSource, http: VendorHttp, clock: Clock, headers: Mapping[str, str] | None = None
    ) -> None:
        """`headers` are sent beside the token."""
        self._source = source
        self._http = http
        self._clock = clock
        self._beside = headers or {}
        self._headers: Mapping[str, str] = {}
        self._ends_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def headers(self) -> Mapping[str, str]:
        left_s = self._ends_at - self._clock.monotonic()
        if left_s <= TOO_LATE_S:
            await self._fetched()
        elif left_s <= RENEW_S:
            self._begin()
        return self._headers

    async def renewed(self, refused: Mapping[str, str]) -> Mapping[str, str] | None:
        if refused.get("Authorization") == self._headers.get("Authorization"):
            await self._fetched()
        return self._headers

    async def _fetched(self) -> None:
        # Whoever waits may leave without ending what others wait for too.
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    async def _fetch(self) -> None:
        token = await self._source.fetch(self._http, self._clock)
        self._headers = {**self._beside, "Authorization": f"Bearer {token.text}"}
        self._ends_at = self._clock.monotonic() + token.lives_s

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            # Looked at, so that a failed attempt ahead of time, for which nobody waits, is not reported as lost.
            task.exception()


class _Known(Struct):
    """A credential file; every kind has its own members."""

    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = TOKEN_URI
    project_id: str = ""
    quota_project_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    service_account_impersonation_url: str = ""
    source_credentials: Any = None
    delegates: tuple[str, ...] = ()


class GoogleCredential(Struct, frozen=True):
    """A credential that was read, with what it tells of the project."""

    source: TokenSource
    project: str = ""
    bills_elsewhere: bool = False
    """A person has no project: the one that pays is named with every request."""
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "GoogleCredential(***)"


def read_credential(text: str) -> GoogleCredential:
    """A credential as Google's console and `gcloud` write it, in JSON.  Raises CredentialsUnreadable."""
    try:
        known = msgspec.json.decode(text, type=_Known)
    except (msgspec.MsgspecError, UnicodeError):
        raise CredentialsUnreadable("it is not the JSON of a Google credential") from None
    return _credential(known)


def _credential(known: _Known) -> GoogleCredential:
    match known.type:
        case "service_account":
            if not known.client_email or not known.private_key:
                raise CredentialsUnreadable("it has no client_email or no private_key")
            account = ServiceAccount(known.client_email, known.private_key_id, known.private_key, known.token_uri)
            return GoogleCredential(account, known.project_id, secrets=(known.private_key,))
        case "authorized_user":
            if not known.refresh_token:
                raise CredentialsUnreadable("it has no refresh_token")
            user = AuthorizedUser(known.client_id, known.client_secret, known.refresh_token, known.token_uri)
            secrets = (known.refresh_token, known.client_secret)
            return GoogleCredential(user, known.quota_project_id, bills_elsewhere=True, secrets=secrets)
        case "impersonated_service_account":
            if not known.service_account_impersonation_url:
                raise CredentialsUnreadable("it has no service_account_impersonation_url")
            try:
                inner = _credential(msgspec.convert(known.source_credentials, _Known))
            except msgspec.ValidationError:
                raise CredentialsUnreadable("its source_credentials cannot be read") from None
            acting = Impersonated(inner.source, known.service_account_impersonation_url, known.delegates)
            project = known.quota_project_id or inner.project
            return GoogleCredential(acting, project, secrets=inner.secrets)
        case _:
            raise CredentialsUnreadable(
                "its type is none of service_account, authorized_user, impersonated_service_account"
            )


class _Reply(Struct):
    access_token: str
    expires_in: float = LIFETIME_S


class _Impersonation(Struct, rename="camel"):
    access_token: str
    expire_time: str


class _Refusal(Struct):
    error: Any = None
    error_description: Any = None


async def _token(http: VendorHttp, url: str, form: Mapping[str, str]) -> Token:
    answer = await http.post(url, _FORM, urlencode(form).encode(), TIMEOUT_S)
    try:
        return _read_token(answer.status, await answer.read(ERROR_BYTES_MAX))
    finally:
        answer.close()


def _read_token(status: int, body: bytes) -> Token:
    if status != 200:
        raise _refused(status, body)
    try:
        told = msgspec.json.decode(body, type=_Reply, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "Google's answer holds no access token") from None
    return Token(told.access_token, told.expires_in)


def _refused(status: int, body: bytes) -> VendorFault:
    """Ours to mend where Google refuses the credential; else Google's own trouble."""
    try:
        told = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = _Refusal()
    word = told.error if isinstance(told.error, str) else ""
    if isinstance(told.error, dict):
        word = str(told.error.get("status") or "")
    message = f"Google gives no access token ({word or f'status {status}'})"
    if status == 429 or status >= 500:
        return VendorFault(FaultKind.OVERLOADED, message, status=status)
    return VendorFault(FaultKind.CREDENTIAL_REJECTED, message, status=status)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
