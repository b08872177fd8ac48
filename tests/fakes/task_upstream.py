"""A vendor of embeddings, images, speech, transcriptions, reranking and moderation on a real socket.

Its answers have the shapes of OpenAI's API (Cohere's for reranking) and are the same for the same request.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Self

from aiohttp import web

SOUND = b"\x01\x02" * 24_000
"""One second as OpenAI sends raw samples."""
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    fields: dict[str, Any]


@dataclass
class TaskUpstream:
    requests: list[Received] = field(default_factory=list)
    fails: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """A path -> the status and body that it answers."""
    base_url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        fields, body = await _read(request)
        self.requests.append(Received(path, dict(request.headers), body, fields))
        if path in self.fails:
            status, told = self.fails[path]
            return web.json_response(told, status=status)
        if _truthy(fields.get("stream")) and path.startswith("/images/"):
            return await _drawn(request)
        if fields.get("stream_format") == "sse":
            return await _spoken(request)
        return _told(path, fields)


def _truthy(value: object) -> bool:
    return str(value).lower() == "true"


def _told(path: str, fields: dict[str, Any]) -> web.Response:
    answer: Any
    match path:
        case "/audio/speech":
            return web.Response(body=SOUND, content_type="audio/pcm")
        case "/audio/transcriptions" | "/audio/translations":
            return _transcript(fields)
        case "/embeddings":
            answer = _embeddings(fields)
        case "/images/generations" | "/images/edits":
            answer = _images(int(fields.get("n", 1)))
        case "/rerank":
            documents = fields["documents"]
            results = [{"index": at, "relevance_score": 1 / (at + 1)} for at in range(len(documents))]
            answer = {"id": "rr-1", "results": results, "usage": {"total_tokens": 40}}
        case "/moderations":
            answer = {"id": "modr-1", "model": fields["model"], "results": [_judged()]}
        case _:
            return web.json_response({"error": {"message": f"no {path}"}}, status=404)
    return web.json_response(answer)


async def _read(request: web.Request) -> tuple[dict[str, Any], bytes]:
    """The members or fields of a request; forms are read by the standard library's own reader of such messages."""
    body = await request.read()
    if not request.content_type.startswith("multipart/"):
        return json.loads(body), body
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    fields: dict[str, Any] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        fields[str(name)] = value if part.get_filename() else value.decode()
    return fields, body


def _embeddings(fields: dict[str, Any]) -> dict[str, Any]:
    given = fields["input"]
    texts = given if isinstance(given, list) else [given]
    vector = [0.25, -0.5]
    told: Any = vector
    if fields.get("encoding_format") == "base64":
        told = base64.b64encode(struct.pack("<2f", *vector)).decode()
    data = [{"object": "embedding", "index": at, "embedding": told} for at in range(len(texts))]
    usage = {"prompt_tokens": 9 * len(texts), "total_tokens": 9 * len(texts)}
    return {"object": "list", "data": data, "model": fields["model"], "usage": usage}


def _images(count: int) -> dict[str, Any]:
    return {
        "created": 1_760_000_000,
        "data": [{"b64_json": PIXEL} for _ in range(count)],
        "size": "1024x1024",
        "quality": "high",
        "output_format": "png",
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
            "output_tokens": 4_160 * count,
            "total_tokens": 20 + 4_160 * count,
        },
    }


async def _events(request: web.Request, *events: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    await response.write_eof()
    return response


async def _drawn(request: web.Request) -> web.StreamResponse:
    shared = {"created_at": 1, "size": "1024x1024", "quality": "high", "background": "auto", "output_format": "png"}
    partial = {"type": "image_generation.partial_image", "b64_json": PIXEL, "partial_image_index": 0, **shared}
    usage = _images(1)["usage"]
    whole = {"type": "image_generation.completed", "b64_json": PIXEL, "usage": usage, **shared}
    return await _events(request, partial, whole)


async def _spoken(request: web.Request) -> web.StreamResponse:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    piece = {"type": "speech.audio.delta", "audio": PIXEL}
    return await _events(request, piece, piece, {"type": "speech.audio.done", "usage": usage})


def _transcript(fields: dict[str, Any]) -> web.Response:
    assert isinstance(fields["file"], bytes)
    if fields.get("response_format") == "text":
        return web.Response(text="Hello there.\n")
    if fields.get("response_format") == "verbose_json":
        return web.json_response({"text": "Hello there.", "language": "english", "duration": 2.5, "segments": []})
    return web.json_response({"text": "Hello there.", "usage": {"type": "duration", "seconds": 3}})


def _judged() -> dict[str, Any]:
    categories = {"hate": False, "violence": False}
    scores = {"hate": 0.01, "violence": 0.01}
    kinds: dict[str, list[str]] = {"hate": [], "violence": []}
    return {
        "flagged": False,
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": kinds,
    }
