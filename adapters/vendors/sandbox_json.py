"""A smallest JSON value that a JSON schema allows, for models that answer without thinking.

It follows what schemas of tools and of structured outputs use.  A pattern is met only where the schema gives
an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEPTH_MAX: Final = 32
WORK_MAX: Final = 10_000
"""Values visited and characters written; a schema may ask for a gigabyte."""

_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_SIMPLE: Final = ("null", "boolean", "integer", "number", "string", "array", "object")


class CannotSatisfy(ValueError):
    """The schema allows nothing, or nothing that can be found with little effort."""


def minimal_json(schema: object) -> Any:
    """Raises CannotSatisfy."""
    return _Search(schema).value(schema, 0)


class _Search:
    def __init__(self, root: object) -> None:
        self._root = root
        self._left = WORK_MAX

    def value(self, schema: object, depth: int) -> Any:
        self._work(1)
        if depth > DEPTH_MAX:
            raise CannotSatisfy("it nests too deeply")
        if schema is True:
            return None
        if not isinstance(schema, dict):
            raise CannotSatisfy("a part of it allows nothing")
        if "const" in schema:
            return schema["const"]
        if isinstance(chosen := schema.get("enum"), list) and chosen:
            return chosen[0]
        if isinstance(target := schema.get("$ref"), str):
            return self.value(self._resolved(target), depth + 1)
        if isinstance(parts := schema.get("allOf"), list) and parts:
            return self.value(self._merged(schema, parts), depth + 1)
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list) and choices:
                return self._first(schema, name, choices, depth)
        return self._typed(schema, depth)

    def _first(self, schema: Mapping[str, Any], name: str, choices: list[Any], depth: int) -> Any:
        """The simplest choice that works out; what stands beside the choices holds for each."""
        beside = {key: value for key, value in schema.items() if key != name}
        for choice in sorted(choices, key=_complexity):
            try:
                return self.value({**beside, **choice} if isinstance(choice, dict) else choice, depth + 1)
            except CannotSatisfy:
                if self._left <= 0:
                    raise
        raise CannotSatisfy("none of its alternatives can be met")

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return _number(schema, 1)
            case "number":
                return _number(schema, schema.get("multipleOf", 1))
            case "boolean":
                return False
            case _:
                return None

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        known: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        return {name: self.value(known.get(name, True), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fixed = schema.get("prefixItems")
        first: list[Any] = fixed if isinstance(fixed, list) else []
        count = _whole(schema.get("minItems"))
        self._work(count)
        rest = schema.get("items", True)
        return [self.value(first[i] if i < len(first) else rest, depth + 1) for i in range(count)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        examples = schema.get("examples")
        for example in (schema.get("default"), *(examples if isinstance(examples, list) else ())):
            if "pattern" in schema and isinstance(example, str):
                return example
        text = _FORMATS.get(str(schema.get("format")), "")
        least = _whole(schema.get("minLength"))
        self._work(least)
        return text.ljust(least, "x")

    def _resolved(self, target: str) -> object:
        found = self._root
        if not target.startswith("#"):
            raise CannotSatisfy(f"{target[:100]!r} is not in it")
        for part in target[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise CannotSatisfy(f"{target[:100]!r} is not in it")
            found = found[name]
        return found

    def _merged(self, schema: Mapping[str, Any], parts: list[Any]) -> dict[str, Any]:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for stated in parts:
            self._work(1)
            part = stated
            while isinstance(part, dict) and isinstance(target := part.get("$ref"), str):
                self._work(1)
                part = self._resolved(target)
            if not isinstance(part, dict):
                continue
            for key, value in part.items():
                known = merged.get(key)
                if isinstance(known, dict) and isinstance(value, dict):
                    merged[key] = {**known, **value}
                elif key in {"required", "allOf"} and isinstance(known, list) and isinstance(value, list):
                    merged[key] = [*known, *value]
                else:
                    merged[key] = value
        return merged

    def _work(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise CannotSatisfy("it asks for too much")


def _type_of(schema: Mapping[str, Any]) -> str:
    named = schema.get("type")
    if isinstance(named, list):
        names = [name for name in named if name in _SIMPLE]
        return str(min(names, key=_SIMPLE.index)) if names else "null"
    if isinstance(named, str):
        return named
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "null"


def _complexity(schema: object) -> int:
    if not isinstance(schema, dict) or "$ref" in schema:
        return len(_SIMPLE)
    if "const" in schema or "enum" in schema:
        return 0
    kind = _type_of(schema)
    return _SIMPLE.index(kind) if kind in _SIMPLE else len(_SIMPLE)


def _whole(value: object) -> int:
    return int(min(value, WORK_MAX + 1)) if isinstance(value, int | float) and value > 0 else 0


def _number(schema: Mapping[str, Any], step: Any) -> int | float:
    """Zero, or the number nearest to it between the bounds."""
    step = step if isinstance(step, int | float) and step > 0 else 1
    every = schema.get("multipleOf")
    if isinstance(every, int | float) and every > 0:
        step = every
    least, most = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    value: int | float = 0
    if least is not None and value < least:
        value = -(-least // step) * step
    if above is not None and value <= above:
        value = (above // step + 1) * step
    if most is not None and value > most:
        value = most // step * step
    if below is not None and value >= below:
        value = (-(-below // step) - 1) * step
    too_low = (least is not None and value < least) or (above is not None and value <= above)
    if too_low or (most is not None and value > most) or (below is not None and value >= below):
        fits = above is not None and below is not None and schema.get("type") == "number" and every is None
        if not fits or above is None or below is None or above >= below:
            raise CannotSatisfy("no number is within its bounds")
        return (above + below) / 2
    return value


def _bound(schema: Mapping[str, Any], name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
