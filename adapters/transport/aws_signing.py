"""AWS Signature Version 4, from AWS's public description, for requests whose body is known.

    headers = signed("POST", url, {"content-type": "application/json"}, body, credentials, "us-east-1", "bedrock", now)

The path is signed as it is sent, encoded once more, as every service but S3 demands.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from msgspec import Struct

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


class AwsCredentials(Struct, frozen=True):
    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"AwsCredentials({self.access_key_id!r}, ***)"


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: AwsCredentials,
    region: str,
    service: str,
    at: datetime,
) -> dict[str, str]:
    """`headers` with those that prove who sends them; valid for five minutes around `at`.

    `url` must be as it goes over the wire, with every reserved character of a path's part encoded.
    """
    parts = urlsplit(url)
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "host": parts.netloc.rpartition("@")[2], "x-amz-date": moment}
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    names = sorted(name.lower() for name in sent)
    values = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    canonical = "\n".join(
        (
            method,
            quote(parts.path or "/", safe="/" + _UNRESERVED),
            _canonical_query(parts.query),
            *(f"{name}:{values[name]}" for name in names),
            "",
            ";".join(names),
            sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, moment, scope, sha256(canonical.encode()).hexdigest()))
    signature = hmac.new(_key(credentials, moment[:8], region, service), to_sign.encode(), sha256).hexdigest()
    credential = f"Credential={credentials.access_key_id}/{scope}"
    sent["Authorization"] = f"{ALGORITHM} {credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return sent


def _canonical_query(query: str) -> str:
    pairs = [
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _key(credentials: AwsCredentials, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
