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
        "or throughput, max_price (USD per million tokens, per request, per image), require_parameters, "
        "data_collection, quantizations.",
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

_AMOUNT: Final[dict[str, Any]] = {"type": ["string", "null"], "description": "An exact decimal, in USD."}
_COST: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "properties": {"min": _AMOUNT, "likely": _AMOUNT, "max": _AMOUNT},
}
EXPLAIN: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "Explain",
        "summary": "What would become of a request",
        "description": (
            "The same body as for a chat. Tells which vendors would be tried in which order, why the others would not, "
            "what it would cost, which credit would pay and which limit would refuse it first. No vendor is called, "
            "nothing is held or charged, and no rate limit of inference is used up."
        ),
        "parameters": [
            {
                "name": "dialect",
                "in": "query",
                "required": False,
                "schema": {"type": "string", "enum": ["chat", "messages", "responses"]},
                "description": "Whose body it is, where its members do not tell.",
            }
        ],
        "requestBody": CHAT_COMPLETIONS["post"]["requestBody"],
        "responses": {
            "200": {
                "description": "What would happen; `refusals` says why it would be refused.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "admitted": {"type": "boolean"},
                                "refusals": {"type": "array", "items": {"type": "object"}},
                                "dialect": {"type": "string"},
                                "models": {"type": "array", "items": {"type": "string"}},
                                "models_not_allowed": {"type": "array", "items": {"type": "string"}},
                                "prompt_tokens_estimated": {"type": "integer"},
                                "ordered_by": {
                                    "type": "string",
                                    "enum": ["only_one", "order", "sort", "cache", "price_weighted"],
                                },
                                "offers": {"type": "array", "items": {"type": "object"}},
                                "excluded": {"type": "array", "items": {"type": "object"}},
                                "cost_usd": _COST,
                                "hold_usd": _AMOUNT,
                                "max_cost_usd": _AMOUNT,
                                "paid_by": {"type": "array", "items": {"type": "object"}},
                                "spendable_usd": _AMOUNT,
                                "key_budget_left_usd": _AMOUNT,
                                "limits": {"type": "object"},
                                "requests_left": {"type": "object"},
                                "first_limit": {"type": ["string", "null"]},
                            },
                        }
                    }
                },
            },
            **{status: {"description": _ERRORS[status]} for status in ("400", "401", "403", "404", "429")},
        },
    }
}


_MESSAGES_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "messages", "max_tokens"],
    "properties": {
        "model": {"type": "string", "description": "See GET /v1/models."},
        "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "max_tokens": {"type": "integer", "minimum": 0},
        "stream": {"type": "boolean"},
        **_GATEWAY_FIELDS,
    },
    "additionalProperties": True,
}
_MESSAGES_ERRORS: Final[dict[str, str]] = {
    **{status: text for status, text in _ERRORS.items() if status != "402"},
    "402": "Not enough credit: the message has the link to more.",
    "529": "No vendor can serve the model at the moment. Nothing was charged.",
}

MESSAGES: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "Messages",
        "summary": "Answer a conversation in Anthropic's dialect, whole or as a stream",
        "description": (
            "Anthropic's Messages. Fields that are not named here, `anthropic-version` and `anthropic-beta` are passed "
            "to a vendor that speaks this dialect; for others the request is translated, and "
            "`x-gatewayz-dropped-params` names what they cannot be told. `usage.cost` is the cost in USD."
        ),
        "parameters": [_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGES_SCHEMA}}},
        "responses": {
            "200": {
                "description": "A message, or a stream of events from message_start to message_stop.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": description} for status, description in _MESSAGES_ERRORS.items()},
        },
    }
}

COUNT_TOKENS: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "CountTokens",
        "summary": "Count the tokens of a conversation in Anthropic's dialect",
        "description": "Free. Where no vendor of the model counts, the figure is an estimate and `estimated` is true.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {**_MESSAGES_SCHEMA, "required": ["model", "messages"]}},
            },
        },
        "responses": {
            "200": {
                "description": "The count.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["input_tokens"],
                            "properties": {
                                "input_tokens": {"type": "integer"},
                                "estimated": {"type": "boolean"},
                            },
                        }
                    }
                },
            },
            **{status: {"description": description} for status, description in _MESSAGES_ERRORS.items()},
        },
    }
}

RESPONSES: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "Responses",
        "summary": "Answer in OpenAI's Responses dialect, whole or as a stream",
        "description": (
            "OpenAI's Responses. A vendor that speaks this dialect gets the request as it is; for others it is "
            "translated, and `x-gatewayz-dropped-params` names what they cannot be told. `usage.cost` is the cost in "
            "USD; a stream carries it in its last event."
        ),
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model", "input"],
                        "properties": {
                            "model": {"type": "string", "description": "See GET /v1/models."},
                            "input": {"type": ["string", "array"]},
                            "stream": {"type": "boolean"},
                            "max_output_tokens": {"type": "integer", "minimum": 1},
                            **_GATEWAY_FIELDS,
                        },
                        "additionalProperties": True,
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "A response, or a stream of numbered events from response.created to its end.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": description} for status, description in _ERRORS.items()},
        },
    }
}


COMPLETIONS: Final[dict[str, Any]] = {
    "post": {
        "tags": ["Inference"],
        "operationId": "Completions",
        "summary": "Go on with a text, whole or as a stream",
        "description": (
            "OpenAI's older Completions. A vendor that serves them gets the request as it is. For others a single "
            "text becomes the user's message of a chat: lists of prompts, tokens, `suffix`, `echo` and `best_of` are "
            "refused there, and without `max_tokens` 16 tokens are written. New programs use /v1/chat/completions."
        ),
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model", "prompt"],
                        "properties": {
                            "model": {"type": "string", "description": "See GET /v1/models."},
                            "prompt": {"type": ["string", "array"]},
                            "stream": {"type": "boolean"},
                            "max_tokens": {"type": "integer", "minimum": 0, "default": 16},
                            **_GATEWAY_FIELDS,
                        },
                        "additionalProperties": True,
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "A text_completion, or a stream of such objects ending in [DONE].",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": description} for status, description in _ERRORS.items()},
        },
    }
}


def task_docs(
    operation: str, summary: str, required: tuple[str, ...], properties: dict[str, Any], *, form: bool = False
) -> dict[str, Any]:
    """The documentation of a task beside chat; `form` where its request holds files."""
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {**properties, **_GATEWAY_FIELDS},
        "additionalProperties": True,
    }
    return {
        "post": {
            "tags": ["Inference"],
            "operationId": operation,
            "summary": summary,
            "description": "Fields that are not named here are passed to the vendor as they are.",
            "parameters": [_KEY],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data" if form else "application/json": {"schema": schema}},
            },
            "responses": {
                "200": {"description": "The vendor's answer; `usage.cost` where it has a usage."},
                **{status: {"description": description} for status, description in _ERRORS.items()},
            },
        }
    }
