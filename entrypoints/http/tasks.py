"""The routes of the tasks beside chat: each passes the same door as a chat, and is priced in its own units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.catalog import Dialect
from entrypoints.http.inference_docs import task_docs

_MODEL: Final = {"type": "string", "description": "See GET /v1/models."}
_TEXT: Final = {"type": "string"}
_FILE: Final = {"type": "string", "format": "binary"}
_COUNT: Final = {"type": "integer", "minimum": 1}

TASK_ROUTES: Final[tuple[tuple[str, Dialect, Mapping[str, Any]], ...]] = (
    (
        "/v1/embeddings",
        Dialect.OPENAI_EMBEDDINGS,
        task_docs(
            "Embeddings",
            "Embed texts",
            ("model", "input"),
            {"model": _MODEL, "input": {"type": ["string", "array"]}, "dimensions": _COUNT, "encoding_format": _TEXT},
        ),
    ),
    (
        "/v1/images/generations",
        Dialect.OPENAI_IMAGES,
        task_docs(
            "ImageGenerations",
            "Draw images",
            ("model", "prompt"),
            {"model": _MODEL, "prompt": _TEXT, "n": _COUNT, "size": _TEXT, "quality": _TEXT},
        ),
    ),
    (
        "/v1/images/edits",
        Dialect.OPENAI_IMAGE_EDITS,
        task_docs(
            "ImageEdits",
            "Edit images",
            ("model", "prompt", "image"),
            {"model": _MODEL, "prompt": _TEXT, "image": _FILE, "mask": _FILE, "n": _COUNT, "size": _TEXT},
            form=True,
        ),
    ),
    (
        "/v1/audio/speech",
        Dialect.OPENAI_SPEECH,
        task_docs(
            "Speech",
            "Speak a text",
            ("model", "input", "voice"),
            {"model": _MODEL, "input": _TEXT, "voice": _TEXT, "response_format": _TEXT},
        ),
    ),
    (
        "/v1/audio/transcriptions",
        Dialect.OPENAI_TRANSCRIPTIONS,
        task_docs(
            "Transcriptions",
            "Write down a recording",
            ("model", "file"),
            {"model": _MODEL, "file": _FILE, "language": _TEXT, "response_format": _TEXT},
            form=True,
        ),
    ),
    (
        "/v1/audio/translations",
        Dialect.OPENAI_TRANSLATIONS,
        task_docs(
            "Translations",
            "Write down a recording in English",
            ("model", "file"),
            {"model": _MODEL, "file": _FILE, "response_format": _TEXT},
            form=True,
        ),
    ),
    (
        "/v1/rerank",
        Dialect.RERANK,
        task_docs(
            "Rerank",
            "Order documents by how well they answer a query",
            ("model", "query", "documents"),
            {"model": _MODEL, "query": _TEXT, "documents": {"type": "array"}, "top_n": _COUNT},
        ),
    ),
    (
        "/v1/moderations",
        Dialect.OPENAI_MODERATIONS,
        task_docs(
            "Moderations",
            "Judge whether texts or images are harmful",
            ("input",),
            {"model": _MODEL, "input": {"type": ["string", "array"]}},
        ),
    ),
)
