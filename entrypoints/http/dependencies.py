"""The single seam between our container and the framework's own injection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dependency_injector.providers import Provider
from litestar.di import Provide

from entrypoints.container import Container, UseCases
from entrypoints.http.guards import caller_of


def handler_dependencies(container: Container, further: Mapping[str, object]) -> dict[str, Provide]:
    """Offer handlers every use case under its name in the container, the caller, and what `further` names."""
    offered = {
        name: Provide(_recipe(getattr(container.use_cases, name)), sync_to_thread=False)
        for name in UseCases.providers
        if name not in {"settings", "adapters"}
    }
    offered["caller"] = Provide(caller_of, sync_to_thread=False)
    for name, value in further.items():
        offered[name] = Provide(_always(value), sync_to_thread=False)
    return offered


def _recipe(provider: Provider[Any]) -> Callable[[], object]:
    # The framework reads a dependency's signature, and a provider object has none.
    return lambda: provider()  # noqa: PLW0108


def _always(value: object) -> Callable[[], object]:
    return lambda: value
