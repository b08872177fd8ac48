"""/docs: every route of this gateway as one page, written here from the OpenAPI schema.

The page is plain HTML and loads nothing from anywhere, so that it works offline and under the strictest
content policy.  Inference routes are raw ASGI, which the framework leaves out of its schema; they describe
themselves in their handler's `opt`, and are added to it.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Router
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.routes import ASGIRoute

from entrypoints.http.guards import ANYONE
from entrypoints.version import gateway_version

DOCUMENTED: Final = "openapi"
"""The `opt` of a raw ASGI handler that holds its operations, by method."""
DEPTH_MAX: Final = 4
METHODS: Final = ("get", "post", "put", "patch", "delete")

Json = Mapping[str, Any]

STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0}
summary{cursor:pointer;padding:.5rem .75rem}
summary:hover{background:var(--soft)}
details>div{padding:0 .75rem .75rem}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{overflow:auto;background:var(--soft);padding:.75rem;border-radius:6px}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .75rem .15rem 0;vertical-align:top}
.method{display:inline-block;min-width:4.5rem;font-weight:600}.about{opacity:.75}
""".strip()
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)


def openapi_config(base_url: str) -> OpenAPIConfig:
    """The schema's head, and the page and the file that show it."""
    headers = {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return OpenAPIConfig(
        title="Gatewayz",
        version=gateway_version(),
        description=(
            "One base URL and one key for every model. Send the key as 'Authorization: Bearer <key>' or as 'x-api-key'."
        ),
        servers=[Server(url=base_url)],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer"),
                "header": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
            }
        ),
        security=[{"key": []}, {"header": []}],
        use_handler_docstrings=True,
        render_plugins=[ReferencePage(path="/"), SchemaFile()],
        openapi_router=Router(
            "/docs", route_handlers=[], include_in_schema=False, guards=[ANYONE], response_headers=headers
        ),
    )


def whole_schema(app: Litestar, schema: Json) -> dict[str, Any]:
    """The framework's schema, and the raw routes beside it."""
    paths = {
        path: {method: _summed_up(operation) for method, operation in item.items()}
        for path, item in schema.get("paths", {}).items()
    }
    for route in app.routes:
        if isinstance(route, ASGIRoute) and (operations := route.route_handler.opt.get(DOCUMENTED)):
            paths[route.path_format or "/"] = {**paths.get(route.path_format, {}), **operations}
    return {**schema, "paths": dict(sorted(paths.items()))}


def _summed_up(operation: Json) -> dict[str, Any]:
    """With the beginning of its description as its title, where the framework takes the handler's name."""
    said = operation.get("description") or ""
    return {**operation, "summary": _first_sentence(said)} if said else dict(operation)


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


class SchemaFile(JsonRenderPlugin):
    """The schema as /docs/openapi.json."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(whole_schema(request.app, openapi_schema))


class ReferencePage(OpenAPIRenderPlugin):
    """The schema as a page."""

    media_type = MediaType.HTML

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return reference_page(whole_schema(request.app, openapi_schema)).encode()


def reference_page(schema: Json) -> str:
    """One section per tag, one foldable entry per operation."""
    sections: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method in METHODS:
            if operation := operations.get(method):
                tag = next(iter(operation.get("tags") or ()), "Other")
                sections.setdefault(tag, []).append(_entry(method, path, operation, schema))
    about = {name: escape(str(value)) for name, value in schema["info"].items()}
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(sections[tag])}" for tag in sorted(sections))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{about['title']} API</title><style>{STYLE}</style></head><body>"
        f"<h1>{about['title']} {about['version']}</h1><p>{about.get('description', '')}</p>"
        f'<p>The same as <a href="/docs/openapi.json">OpenAPI {escape(schema["openapi"])}</a>.</p>'
        f"{body}</body></html>"
    )


def _entry(method: str, path: str, operation: Json, schema: Json) -> str:
    told = operation.get("description") or operation.get("summary") or ""
    return (
        f'<details id="{escape(f"{method}-{path}")}"><summary>'
        f'<code><span class="method">{method.upper()}</span> {escape(path)}</code> '
        f'<span class="about">{escape(_first_sentence(told))}</span></summary><div>'
        f"<p>{escape(told)}</p>{_parameters(operation.get('parameters') or ())}"
        f"{_body('Body', operation.get('requestBody'), schema)}{_answers(operation, schema)}</div></details>"
    )


def _parameters(parameters: Iterable[Json]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{'required' if each.get('required') else ''}</td>"
        f"<td>{escape(_shape(each.get('schema', {}), {}, 0))}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _answers(operation: Json, schema: Json) -> str:
    return "".join(
        _body(f"Answer {status}", answer, schema) for status, answer in operation.get("responses", {}).items()
        if status.startswith("2")
    )  # fmt: skip


def _body(title: str, holder: Json | None, schema: Json) -> str:
    for media, content in ((holder or {}).get("content") or {}).items():
        if shape := content.get("schema"):
            text = _shape(shape, schema.get("components", {}).get("schemas", {}), 0)
            return f"<p>{escape(title)} <code>{escape(media)}</code></p><pre>{escape(text)}</pre>"
    return ""


def _shape(schema: Json, known: Json, depth: int) -> str:
    """A JSON schema as people write types: { "name": string, "limit"?: integer }."""
    if name := schema.get("$ref"):
        name = name.rpartition("/")[2]
        return _shape(known[name], known, depth) if name in known and depth < DEPTH_MAX else name
    for key in ("oneOf", "anyOf"):
        if options := schema.get(key):
            return " | ".join(dict.fromkeys(_shape(option, known, depth) for option in options))
    if values := schema.get("enum"):
        return " | ".join(msgspec.json.encode(value).decode() for value in values)
    if "const" in schema:
        return msgspec.json.encode(schema["const"]).decode()
    match schema.get("type"):
        case "array":
            return f"[{_shape(schema.get('items') or {}, known, depth)}, ...]"
        case "object" if schema.get("properties") and depth < DEPTH_MAX:
            return _object(schema, known, depth)
        case list() as kinds:
            return " | ".join(kinds)
        case kind:
            return schema.get("format") or kind or "any"


def _object(schema: Json, known: Json, depth: int) -> str:
    required = set(schema.get("required") or ())
    pad = "  " * (depth + 1)
    lines = "\n".join(
        f'{pad}"{name}"{"" if name in required else "?"}: {_shape(part, known, depth + 1)},'
        for name, part in schema["properties"].items()
    )
    return f"{{\n{lines}\n{'  ' * depth}}}"
