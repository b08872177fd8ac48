"""Amazon Bedrock over a real socket: Converse, its binary event stream, and its control plane's lists.

It proves the signature of every request by a computation of its own, or knows a bearer key.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from tests.fakes.upstream import Break, Request, Script, Upstream

Json = dict[str, Any]

MODEL = "us.anthropic.claude-opus-4-8-20260115-v1:0"
ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
BEARER = "ABSK-bedrock-key"
SIGNATURE = "c2lnbmF0dXJl"
TEXT: Json = {"text": "Hello from the fake Bedrock."}
THOUGHT: Json = {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": SIGNATURE}}}
REDACTED: Json = {"reasoningContent": {"redactedContent": "c2VhbGVk"}}
GOLDEN = {
    "inputTokens": 100,
    "outputTokens": 50,
    "totalTokens": 1_250,
    "cacheReadInputTokens": 800,
    "cacheWriteInputTokens": 300,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 100}],
}
"""The cache's tokens lie beside the input's."""


def tool_use(id_: str = "tooluse_1", name: str = "get_weather", **input_: Any) -> Json:
    return {"toolUse": {"toolUseId": id_, "name": name, "input": input_ or {"city": "Zürich"}}}


def token_usage(output: int = 6) -> Json:
    return {"inputTokens": 11, "outputTokens": output, "totalTokens": 11 + output}


def answer(*blocks: Json, stop: str | None = None, usage: Mapping[str, Any] | None = None) -> Json:
    content = list(blocks or (TEXT,))
    called = any("toolUse" in block for block in content)
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop or ("tool_use" if called else "end_turn"),
        "usage": dict(token_usage() if usage is None else usage),
        "metrics": {"latencyMs": 1},
    }


def frame(kind: str, payload: Json, message_type: str = "event") -> bytes:
    """One frame, by hand: two lengths and their checksum, headers, payload, checksum of all."""
    name = {"event": ":event-type", "exception": ":exception-type"}[message_type]
    headers = b""
    for key, value in ((name, kind), (":content-type", "application/json"), (":message-type", message_type)):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))


def stream(whole: Json) -> list[bytes]:
    """The same answer as frames: the counts behind the reason to stop."""
    told = [frame("messageStart", {"role": "assistant", "p": "abcdef"})]
    for index, block in enumerate(whole["output"]["message"]["content"]):
        told += _block_frames(index, block)
    told.append(frame("messageStop", {"stopReason": whole["stopReason"]}))
    return [*told, frame("metadata", {"usage": whole["usage"], "metrics": {"latencyMs": 1}})]


def _block_frames(index: int, block: Json) -> list[bytes]:
    def delta(value: Json) -> bytes:
        return frame("contentBlockDelta", {"delta": value, "contentBlockIndex": index, "p": "abc"})

    told: list[bytes] = []
    if "text" in block:
        told = [delta({"text": piece}) for piece in _pieces(block["text"])]
    elif "toolUse" in block:
        use = block["toolUse"]
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        told = [frame("contentBlockStart", {"start": start, "contentBlockIndex": index})]
        text = json.dumps(use["input"], ensure_ascii=False)
        told += [delta({"toolUse": {"input": piece}}) for piece in _pieces(text)]
    elif "reasoningText" in block["reasoningContent"]:
        thought = block["reasoningContent"]["reasoningText"]
        told = [delta({"reasoningContent": {"text": piece}}) for piece in _pieces(thought["text"])]
        told.append(delta({"reasoningContent": {"signature": thought["signature"]}}))
    else:
        told = [delta({"reasoningContent": block["reasoningContent"]})]
    return [*told, frame("contentBlockStop", {"contentBlockIndex": index})]


def _pieces(text: str, size: int = 7) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def refused(status: int, name: str, message: str = "no") -> Script:
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/", "x-amzn-requestid": "req-1"}
    return Script(status=status, headers=headers, json_body={"message": message})


def says(*blocks: Json, **members: Any) -> Any:
    """A script that gives this answer, whole or streamed as the request asks."""
    return lambda request: told(request, answer(*blocks, **members))


def told(request: Request, whole: Json) -> Script:
    if request.path.endswith("/converse-stream"):
        return streams(stream(whole))
    return Script(json_body=whole, headers={"x-amzn-requestid": "req-1"})


def streams(frames: Sequence[bytes], breaks: Break | None = None, **more: Any) -> Script:
    """A stream of exactly these frames."""
    headers = {"Content-Type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "req-1"}
    return Script(frames=list(frames), done=False, breaks=breaks, headers=headers, **more)


def model_of(request: Request) -> str:
    return unquote(request.path.removeprefix("/model/").partition("/")[0])


class BedrockUpstream(Upstream):
    """The fake vendor; `by_model` goes by the model that the address names."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script_for(self, request: Request) -> Script:
        if not self._is_known(request):
            return refused(403, "InvalidSignatureException", "The request signature we calculated does not match")
        found = self.by_model.get(model_of(request)) if request.path.startswith("/model/") else None
        if found is None:
            return super().script_for(request)
        return found(request) if callable(found) else found

    def _correct(self, request: Request, path: str) -> Script:
        if path == "/foundation-models":
            return Script(json_body=_models())
        if path == "/inference-profiles":
            return Script(json_body=_profiles("nextToken=two" in request.path))
        if not path.endswith(("/converse", "/converse-stream")):
            return refused(404, "ResourceNotFoundException", path)
        if wrong := unreadable(request.json):
            return refused(400, "ValidationException", wrong)
        return told(request, answer())

    def _is_known(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        if given == f"Bearer {BEARER}":
            return True
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/bedrock/aws4_request, SignedHeaders=([\w;-]+), "
            r"Signature=([0-9a-f]{64})",
            given,
        )
        if found is None or found[1] != ACCESS_KEY or found[3] != REGION:
            return False
        path, _, query = request.path.partition("?")
        canonical = [request.method, _encoded(path), "&".join(sorted(query.split("&"))) if query else ""]
        canonical += [f"{name}:{request.headers[name]}" for name in found[4].split(";")]
        canonical += ["", found[4], hashlib.sha256(request.body).hexdigest()]
        scope = f"{found[2]}/{REGION}/bedrock/aws4_request"
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{digest}"
        key = b"AWS4" + SECRET_KEY.encode()
        for part in (found[2], REGION, "bedrock", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest() == found[5]


def _encoded(path: str) -> str:
    return "".join(c if re.fullmatch(r"[A-Za-z0-9/_.~-]", c) else f"%{ord(c):02X}" for c in path)


def unreadable(asked: Any) -> str:
    """What Bedrock would refuse a request for; "" for a good one."""
    known = {"messages", "system", "inferenceConfig", "toolConfig", "additionalModelRequestFields", "outputConfig"}
    if not isinstance(asked, dict) or not asked.get("messages"):
        return "messages: must not be empty"
    if strange := set(asked) - known:
        return f"unknown members {strange}"
    roles = [message["role"] for message in asked["messages"]]
    if roles[0] != "user" or any(one == two for one, two in pairwise(roles)):
        return "A conversation must start with a user message and roles must alternate."
    used = any("toolUse" in block for message in asked["messages"] for block in message["content"])
    if used and "toolConfig" not in asked:
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    return ""


def _models() -> Json:
    claude = MODEL.removeprefix("us.")
    rows = [
        (claude, ["TEXT", "IMAGE"], ["TEXT"], ["INFERENCE_PROFILE"]),
        ("amazon.nova-lite-v1:0", ["TEXT"], ["TEXT"], ["ON_DEMAND", "INFERENCE_PROFILE"]),
        ("amazon.titan-embed-text-v2:0", ["TEXT"], ["EMBEDDING"], ["ON_DEMAND"]),
    ]
    return {
        "modelSummaries": [
            {
                "modelId": id_,
                "modelName": id_.partition(".")[2],
                "inputModalities": into,
                "outputModalities": out,
                "responseStreamingSupported": True,
                "inferenceTypesSupported": kinds,
            }
            for id_, into, out, kinds in rows
        ]
    }


def _profiles(second: bool) -> Json:
    if second:
        return {"inferenceProfileSummaries": []}
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL.removeprefix('us.')}"
    row = {"inferenceProfileId": MODEL, "status": "ACTIVE", "models": [{"modelArn": arn}]}
    return {"inferenceProfileSummaries": [row], "nextToken": "two"}
