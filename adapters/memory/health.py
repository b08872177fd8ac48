"""The health of vendors as this process has seen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from domain import health
from domain.catalog import Offer
from domain.health import Vitals
from domain.ids import VendorSlug
from domain.inference.faults import OPERATORS_OWN, VendorFault
from domain.ports.catalog import VendorPulse
from domain.ports.clock import Clock
from domain.routing import Pulse

OFFERS_MAX: Final = 50_000
"""More than any catalogue has; then what was known longest is forgotten."""

_UNKNOWN = Vitals()
_NEVER_CALLED = Pulse()


class MemoryHealthBoard:
    """The port `HealthBoard` for one process; the rules are in `domain.health`."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._vitals: dict[tuple[VendorSlug, str], Vitals] = {}
        self._vendors_rest_until: dict[VendorSlug, float] = {}

    def pulse(self, offer: Offer) -> Pulse:
        now = self._now()
        vitals = self._vitals.get((offer.vendor, offer.vendor_model))
        vendor_rests = now < self._vendors_rest_until.get(offer.vendor, 0.0)
        if vitals is None:
            return Pulse(resting=True) if vendor_rests else _NEVER_CALLED
        pulse = vitals.pulse(now)
        return replace(pulse, resting=True) if vendor_rests else pulse

    def begins(self, offer: Offer) -> bool:
        key = (offer.vendor, offer.vendor_model)
        vitals = self._vitals.get(key)
        if vitals is None or not vitals.openings:
            return True
        now = self._now()
        if vitals.half_open(now):
            self._vitals[key] = health.probing(vitals, now)
        return not vitals.probed(now)

    def vendors(self) -> Mapping[VendorSlug, VendorPulse]:
        now = self._now()
        pulses: dict[VendorSlug, list[Pulse]] = {vendor: [] for vendor in self._vendors_rest_until}
        for (vendor, _), vitals in self._vitals.items():
            pulses.setdefault(vendor, []).append(vitals.pulse(now))
        rests_until = self._vendors_rest_until
        return {vendor: VendorPulse(now < rests_until.get(vendor, 0.0), known) for vendor, known in pulses.items()}

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None:
        self._vendors_rest_until.pop(offer.vendor, None)
        key, vitals = self._known(offer)
        self._vitals[key] = health.succeeded(
            vitals,
            self._now(),
            first_token_ms=first_token_ms,
            output_tokens=output_tokens,
            duration_ms=duration_ms,
        )

    def failed(self, offer: Offer, fault: VendorFault) -> None:
        if not fault.hurts_health:
            return
        now = self._now()
        if fault.kind in OPERATORS_OWN:
            # Our account there is what failed, and it is the same for all of its models.
            self._vendors_rest_until[offer.vendor] = now + health.OPERATORS_REST_S
            return
        key, vitals = self._known(offer)
        self._vitals[key] = health.failed(vitals, now, fault.kind, fault.retry_after_s)

    def _known(self, offer: Offer) -> tuple[tuple[VendorSlug, str], Vitals]:
        key = (offer.vendor, offer.vendor_model)
        vitals = self._vitals.get(key)
        if vitals is None:
            if len(self._vitals) >= OFFERS_MAX:
                del self._vitals[next(iter(self._vitals))]
            vitals = _UNKNOWN
        return key, vitals
