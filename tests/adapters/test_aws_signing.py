"""Signature Version 4 against the cases that AWS has published (its test suite, and its page's example)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.transport.aws_signing import AwsCredentials, signed

KEY = AwsCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
ROOT = "https://example.amazonaws.com/"
FORM = "application/x-www-form-urlencoded"
CASES = {
    "get-vanilla": ("GET", ROOT, {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "post-vanilla": ("POST", ROOT, {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "get-vanilla-query-order-key-case": (
        "GET",
        f"{ROOT}?Param2=value2&Param1=value1",
        {},
        b"",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-utf8": ("GET", f"{ROOT}\u1234", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-header-value-trim": (
        "GET",
        ROOT,
        {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
        b"",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-x-www-form-urlencoded": (
        "POST",
        ROOT,
        {"Content-Type": FORM},
        b"Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_published_case_is_signed_as_published(case: str) -> None:
    method, url, headers, body, signature = CASES[case]

    authorization = signed(method, url, headers, body, KEY, "us-east-1", "service", AT)["Authorization"]

    assert authorization.startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
    )
    assert authorization.endswith(f"Signature={signature}")


def test_the_example_of_the_documentation() -> None:
    url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"
    headers = {"Content-Type": f"{FORM}; charset=utf-8"}

    authorization = signed("GET", url, headers, b"", KEY, "us-east-1", "iam", AT)["Authorization"]

    assert authorization == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def test_a_session_token_is_signed_too() -> None:
    temporary = AwsCredentials(KEY.access_key_id, KEY.secret_access_key, "session")

    headers = signed("GET", ROOT, {}, b"", temporary, "us-east-1", "service", AT)

    assert headers["x-amz-security-token"] == "session"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in headers["Authorization"]


def test_an_encoded_path_is_encoded_once_more() -> None:
    """Model ids hold colons: on the wire they are %3A, in what is signed %253A."""
    plain = signed("GET", f"{ROOT}a:b", {}, b"", KEY, "us-east-1", "service", AT)["Authorization"]
    encoded = signed("GET", f"{ROOT}a%3Ab", {}, b"", KEY, "us-east-1", "service", AT)["Authorization"]
    assert plain != encoded


def test_secrets_are_not_shown() -> None:
    assert KEY.secret_access_key not in repr(KEY)
