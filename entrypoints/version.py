"""Which release this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def gateway_version() -> str:
    try:
        return version("gatewayz")
    except PackageNotFoundError:
        return "unknown"
