"""A vendor that speaks Gemini over a real socket, on the server of `tests.fakes.upstream`; and Google's cloud,
which speaks it at other addresses, hands out access tokens and serves Anthropic's models too.

Without a script it answers whatever it is asked correctly, whole or streamed, and lists models.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.fakes import anthropic_upstream as claude
from tests.fakes.upstream import Break, Request, Script, Upstream

Json = dict[str, Any]

MODEL = "gemini-2.5-flash"
NEWER = "gemini-3.1-pro-preview"
DRAWS = "gemini-3.1-flash-image"
PROMPT_TOKENS = 11
TEXT: Json = {"text": "Hello from the fake Gemini."}
THOUGHT: Json = {"text": "Let me see.", "thought": True}
SIGNATURE = "c2lnbmF0dXJlLW9mLXRob3VnaHQ="
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
PICTURE: Json = {"inlineData": {"mimeType": "image/png", "data": PNG}}
GOLDEN = {
    "promptTokenCount": 1_000,
    "cachedContentTokenCount": 400,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 50,
    "toolUsePromptTokenCount": 20,
    "totalTokenCount": 1_100,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 742}, {"modality": "IMAGE", "tokenCount": 258}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 400}],
    "trafficType": "ON_DEMAND",
}
"""Cached tokens lie inside the prompt; thoughts and what tools read lie beside the other counts."""


def call(name: str = "get_weather", *, signed: bool = False, id_: str | None = None, **args: Any) -> Json:
    written: Json = {"name": name, "args": args or {"city": "Zürich"}}
    if id_ is not None:
        written["id"] = id_
    return {"functionCall": written} | ({"thoughtSignature": SIGNATURE} if signed else {})


def token_usage(output: int = 6, **more: Any) -> Json:
    return {
        "promptTokenCount": PROMPT_TOKENS,
        "candidatesTokenCount": output,
        "totalTokenCount": PROMPT_TOKENS + output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": PROMPT_TOKENS}],
    } | more


def answer(
    *parts: Json,
    model: str = MODEL,
    finish: str | None = "STOP",
    usage: Mapping[str, Any] | None = None,
    **candidate: Any,
) -> Json:
    """A whole answer in Gemini's true shape; `candidate` are further members of the only candidate."""
    return {
        "candidates": [
            {
                "content": {"parts": list(parts or (TEXT,)), "role": "model"},
                **({"finishReason": finish} if finish else {}),
                "index": 0,
                **candidate,
            }
        ],
        "usageMetadata": dict(token_usage() if usage is None else usage),
        "modelVersion": model,
        "responseId": "resp0001",
    }


def blocked(reason: str = "SAFETY") -> Json:
    return {
        "promptFeedback": {"blockReason": reason},
        "usageMetadata": {"promptTokenCount": PROMPT_TOKENS, "totalTokenCount": PROMPT_TOKENS},
        "modelVersion": MODEL,
        "responseId": "resp0001",
    }


def event(payload: Json) -> bytes:
    data = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return f"data: {data}\r\n\r\n".encode()


def stream(whole: Json) -> list[bytes]:
    """The same answer as events: texts in pieces, usage so far on every one, the reason to stop on the last."""
    if "candidates" not in whole:
        return [event(whole)]
    candidate, usage = whole["candidates"][0], whole["usageMetadata"]
    pieces = [piece for part in candidate["content"]["parts"] for piece in _pieces(part)]
    told: list[bytes] = []
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        so_far = (
            dict(usage)
            if last
            else {**usage, "candidatesTokenCount": min(number, usage.get("candidatesTokenCount", 0))}
        )
        beside = {k: v for k, v in candidate.items() if last or k == "index"}
        content = {"content": {"parts": [piece], "role": "model"}}
        told.append(event({**whole, "candidates": [beside | content], "usageMetadata": so_far}))
    return told


def _pieces(part: Json, size: int = 7) -> list[Json]:
    if "text" not in part:
        return [part]
    text = part["text"]
    cut = [{**part, "text": text[at : at + size]} for at in range(0, len(text), size)] or [part]
    for piece in cut[:-1]:
        piece.pop("thoughtSignature", None)
    return cut


def refused(code: int, status: str, message: str = "no", *details: Json, wrapped: bool = False) -> Script:
    """An error with Google's body; `wrapped` in an array, as where a stream was asked for as an array."""
    body: Any = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return Script(status=code, json_body=[body] if wrapped else body)


def exhausted(delay: str = "34s") -> Script:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return refused(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, check your plan and billing", retry)


def bad_key() -> Script:
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    return refused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason)


def too_long() -> Script:
    words = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    return refused(400, "INVALID_ARGUMENT", words)


def says(*parts: Json, **members: Any) -> Any:
    """A script that gives this answer, whole or streamed as the request asks."""
    return lambda request: told(request, answer(*parts, **members))


def told(request: Request, whole: Json) -> Script:
    if ":stream" in request.path:
        return streams(stream(whole))
    return Script(json_body=whole)


def streams(frames: Sequence[bytes], breaks: Break | None = None, **more: Any) -> Script:
    """A stream of exactly these events."""
    return Script(frames=list(frames), done=False, breaks=breaks, **more)


def model_of(request: Request) -> str:
    return unquote(urlsplit(request.path).path).rpartition("/models/")[2].partition(":")[0]


class GeminiUpstream(Upstream):
    """The fake vendor; `by_model` goes by the model that the address names."""

    def __init__(self, *, models: Sequence[str] = (MODEL,), page: int = 1_000) -> None:
        super().__init__(models=models)
        self.page = page

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1beta"

    def script_for(self, request: Request) -> Script:
        found = self.by_model.get(model_of(request)) if "/models/" in request.path else None
        if found is None:
            return super().script_for(request)
        return found(request) if callable(found) else found

    def _correct(self, request: Request, path: str) -> Script:
        if not self._is_open(request):
            return bad_key()
        if request.method == "GET" and path == "/v1beta/models":
            return Script(json_body=self._models(request.path))
        if path == "/v1beta/openai/embeddings":
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            row = {"object": "embedding", "index": 0, "embedding": [0.5]}
            return Script(json_body={"object": "list", "data": [row], "model": request.json["model"], "usage": usage})
        return self._generated(request, path)

    def _is_open(self, request: Request) -> bool:
        return "x-goog-api-key" in request.headers or "authorization" in request.headers

    def _generated(self, request: Request, path: str) -> Script:
        verb = path.rpartition(":")[2]
        if verb not in ("generateContent", "streamGenerateContent"):
            return refused(404, "NOT_FOUND", path)
        if verb == "streamGenerateContent" and "alt=sse" not in request.path:
            return refused(400, "INVALID_ARGUMENT", "this fake streams events only", wrapped=True)
        asked = request.json
        if wrong := unreadable(asked):
            return refused(400, "INVALID_ARGUMENT", wrong)
        drawn = "IMAGE" in asked.get("generationConfig", {}).get("responseModalities", ())
        parts = (PICTURE,) if drawn else (TEXT,)
        details = [{"modality": "IMAGE", "tokenCount": 1_120}]
        usage = token_usage(1_120, candidatesTokensDetails=details) if drawn else token_usage()
        return told(request, answer(*parts, model=model_of(request), usage=usage))

    def _models(self, path: str) -> Json:
        first = int(parse_qs(urlsplit(path).query).get("pageToken", ["0"])[0])
        page = self.models[first : first + self.page]
        more = first + self.page < len(self.models)
        return {"models": [_listed(m) for m in page]} | ({"nextPageToken": str(first + self.page)} if more else {})


def unreadable(asked: Any) -> str:
    """What Google would refuse a request for; "" for a good one."""
    known = {
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "generationConfig",
        "safetySettings",
        "cachedContent",
    }
    if not isinstance(asked, dict) or not asked.get("contents"):
        return "contents is not specified"
    if strange := set(asked) - known:
        return f"Unknown name {strange}"
    before = ""
    for content in asked["contents"]:
        parts = content["parts"]
        if content["role"] not in ("user", "model") or not parts:
            return "Please use a valid role: user, model."
        if content["role"] == before:
            return "roles must alternate"
        before = content["role"]
    if asked["contents"][0]["role"] != "user":
        return "Please ensure that the first turn is the user's"
    for said, heard in zip(asked["contents"], asked["contents"][1:], strict=False):
        calls = [p["functionCall"]["name"] for p in said["parts"] if "functionCall" in p]
        results = [p["functionResponse"]["name"] for p in heard["parts"] if "functionResponse" in p]
        if sorted(calls) != sorted(results):
            return "the number of function response parts must equal the number of function call parts"
    return ""


def _listed(model: str) -> Json:
    embeds = "embedding" in model
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model.replace("-", " ").title(),
        "description": "Fast.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["embedContent"] if embeds else ["generateContent", "countTokens"],
        "thinking": "2.5" in model or "3" in model,
    }


class VertexUpstream(GeminiUpstream):
    """Google's cloud: access tokens for statements that the right key signed, Gemini and Claude for tokens."""

    PROJECT = "acme-project"
    EMAIL = "gateway@acme-project.iam.gserviceaccount.com"

    def __init__(self, *, models: Sequence[str] = (MODEL,)) -> None:
        super().__init__(models=models)
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self.tokens_given = 0
        self.lives_s = 3_600
        self.withdrawn: set[str] = set()
        """Tokens that are no longer taken."""

    @property
    def base_url(self) -> str:
        return self.origin

    @property
    def credential(self) -> Json:
        """The JSON file of the service account."""
        return self.credential_at(self.origin)

    def credential_at(self, origin: str) -> Json:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": self.PROJECT,
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": self.EMAIL,
            "token_uri": f"{origin}/token",
        }

    def script_for(self, request: Request) -> Script:
        if request.path == "/token":
            return self._token(request)
        if request.path.endswith(":generateAccessToken"):
            return self._impersonated(request)
        if request.path.startswith("/computeMetadata/"):
            if request.headers.get("metadata-flavor") != "Google":
                return Script(status=403, body=b"Missing Metadata-Flavor:Google header.")
            return Script(json_body=self._given())
        if not self._is_open(request):
            return refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        return super().script_for(request)

    def _is_open(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return token.startswith("ya29.token-") and token not in self.withdrawn

    def _given(self) -> Json:
        self.tokens_given += 1
        return {"access_token": f"ya29.token-{self.tokens_given}", "expires_in": self.lives_s, "token_type": "Bearer"}

    def _token(self, request: Request) -> Script:
        form = parse_qs(request.body.decode())
        if form["grant_type"] == ["refresh_token"]:
            known = form.get("refresh_token") == ["refresh-me"]
        else:
            known = self._is_signed(form["assertion"][0])
        if not known:
            return Script(
                status=400, json_body={"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            )
        return Script(json_body=self._given())

    def _is_signed(self, assertion: str) -> bool:
        head, claims, signature = assertion.split(".")
        try:
            self._key.public_key().verify(_bytes(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
        except Exception:
            return False
        told_ = json.loads(_bytes(claims))
        assert json.loads(_bytes(head)) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
        return bool(
            told_["iss"] == self.EMAIL
            and told_["aud"] == f"{self.origin}/token"
            and told_["scope"].endswith("/auth/cloud-platform")
            and told_["exp"] - told_["iat"] <= 3_600
        )

    def _impersonated(self, request: Request) -> Script:
        if not self._is_open(request):
            return refused(401, "UNAUTHENTICATED")
        asked = request.json
        assert asked["lifetime"] == "3600s"
        self.tokens_given += 1
        told_ = {"accessToken": f"ya29.token-{self.tokens_given}", "expireTime": "2099-01-01T00:00:00Z"}
        return Script(json_body=told_)

    def _correct(self, request: Request, path: str) -> Script:
        if path == "/v1beta1/publishers/google/models":
            rows = [{"name": f"publishers/google/models/{model}", "versionId": "1"} for model in self.models]
            return Script(json_body={"publisherModels": rows})
        if ":predict" in path:
            return Script(json_body={"predictions": [PNG]})
        if path.endswith("awPredict"):
            return self._claude(request, path)
        if path.endswith("/endpoints/openapi/chat/completions"):
            return replace(Script(), done=True)
        if "/publishers/google/models/" not in path:
            return refused(404, "NOT_FOUND", path)
        return self._generated(request, path)

    def _claude(self, request: Request, path: str) -> Script:
        asked = request.json
        if asked.get("anthropic_version") != "vertex-2023-10-16" or "model" in asked:
            return refused(400, "INVALID_ARGUMENT", "anthropic_version: Field required")
        whole = claude.message(model=model_of(request))
        if path.endswith(":streamRawPredict"):
            assert asked["stream"] is True
            return claude.streams(claude.stream(whole))
        return Script(json_body=whole)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
