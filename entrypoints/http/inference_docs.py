"""What the documentation says of routes that are raw ASGI and that the framework therefore cannot describe."""

from __future__ import annotations

from typing import Any, Final

_GATEWAY_FIELDS: Final[dict[str, Any]] = {
    "models": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Further models to fall back to, in order.",
    },
    "provider": {
        "type": "object",
        "description": "Which vendors may serve: order, only, ignore, allow_fallbacks, sort by price, latency "
        "or throughput.",
    },
    "session_id": {"type": "string", "description": "Groups the requests of one conversation."},
    "max_cost_usd": {
        "type": ["string", "number"],
        "description": "Refuse with 402 max_cost_exceeded what would cost more.",
    },
}
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key and body get the same outcome, charged once.",
}
_ERRORS: Final[dict[str, str]] = {
    "400": "The request cannot be understood; `param` names the field.",
    "401": "No API key, or not a valid one.",
    "402": "Not enough credit: required_usd, spendable_usd and top_up_url say what is missing.",
    "403": "The key may not do this.",
    "404": "No such model; the message has near names.",
    "429": "A rate limit; `retry-after` says when to try again.",
    "502": "The vendor failed. Nothing was charged.",
    "503": "No vendor, or no storage, is available. Nothing was charged.",
    "504": "The vendor did not answer in time. Nothing was charged.",
}

CHAT_COMPLETIONS: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "ChatCompletions",
        "summary": "Answer a chat, whole or as a stream",
        "description": (
            "OpenAI's Chat Completions. Fields that are not named here are passed to the vendor as they are. "
            "The answer carries `usage.cost` in USD; a stream that asks for its usage carries it in its last frame."
        ),
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model", "messages"],
                        "properties": {
                            "model": {"type": "string", "description": "See GET /v1/models."},
                            "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
                            "stream": {"type": "boolean"},
                            "max_completion_tokens": {"type": "integer", "minimum": 1},
                            **_GATEWAY_FIELDS,
                        },
                        "additionalProperties": True,
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "A chat.completion, or a stream of chat.completion.chunk events ending in [DONE].",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": description} for status, description in _ERRORS.items()},
        },
    }
}
