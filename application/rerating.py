"""Working out a month's charges again from the price versions, usage and markups that were stored with them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from domain.errors import InvalidRequest
from domain.ids import AccountId, PriceId, RequestId, VendorSlug
from domain.money import ZERO, Usd
from domain.ports.charges import Charge, Charges
from domain.ports.repositories import Prices
from domain.pricing import Price
from domain.usage import Outcome

PAGE: Final = 2_000
DIFFERENCES_MAX: Final = 1_000
"""So many are shown; all are counted."""
FREE_OUTCOMES: Final = frozenset({Outcome.BROKEN_OFF, Outcome.FAILED})
_MONTH = re.compile(r"20\d{2}-(0[1-9]|1[0-2])", re.ASCII)


class ChargeDiffers(Struct, frozen=True, kw_only=True):
    """A charge that what is stored of it does not explain."""

    account_id: AccountId
    request_id: RequestId
    what: str
    stored_nanos: int
    recomputed_nanos: int | None
    """None where nothing can be worked out, because the price version is not stored."""


class VendorTotal(Struct, kw_only=True):
    """What one vendor's answers brought in, and cost where the vendor says so."""

    vendor: VendorSlug
    requests: int = 0
    charged: Usd = ZERO
    told: int = 0
    """Requests whose cost the vendor told."""
    charged_told: Usd = ZERO
    """What was charged for those alone, to be compared with `vendor_cost`."""
    vendor_cost: Usd = ZERO

    @property
    def margin(self) -> Usd:
        return self.charged_told - self.vendor_cost


class Rerating(Struct, kw_only=True):
    month: str
    charges: int = 0
    charged: Usd = ZERO
    recomputed: Usd = ZERO
    found: int = 0
    """How many differences there are in all."""
    differences: list[ChargeDiffers] = []
    """The first of them."""
    vendors: list[VendorTotal] = []


@dataclass(frozen=True, slots=True)
class RerateMonth:
    charges: Charges
    prices: Prices
    page: int = PAGE

    async def __call__(self, month: str) -> Rerating:
        """Work out every charge of requests that began in this month, UTC.  Reads page by page.

        Raises InvalidRequest for what is no month like "2026-11".
        """
        start, end = _bounds(month)
        run = _Run(Rerating(month=month))
        after = None
        while page := await self.charges.page(start, end, after, self.page):
            wanted = {charge.record.price_id for charge in page} - run.prices.keys() - {PriceId("")}
            run.prices.update((price.id, price) for price in await self.prices.versions(wanted))
            for charge in page:
                run.add(charge)
            last = page[-1]
            after = (last.account_id, last.request_id)
        run.result.vendors = [run.vendors[vendor] for vendor in sorted(run.vendors)]
        return run.result


@dataclass(slots=True)
class _Run:
    result: Rerating
    prices: dict[PriceId, Price] = field(default_factory=dict)
    vendors: dict[VendorSlug, VendorTotal] = field(default_factory=dict)

    def add(self, charge: Charge) -> None:
        result, record = self.result, charge.record
        result.charges += 1
        result.charged += charge.cost
        self._count(charge)
        full = self._full(charge)
        if full is None:
            self._differs(charge, f"the price version {record.price_id!r} is not stored", charge.cost, None)
            return
        free = record.outcome in FREE_OUTCOMES
        cost = ZERO if free else full
        result.recomputed += cost
        for what, stored, recomputed in (
            ("cost", charge.cost, cost),
            ("cost in its record", record.cost, cost),
            ("loss in its record", record.loss, full if free else ZERO),
            ("booked by the ledger", charge.booked, cost),
        ):
            if stored != recomputed:
                self._differs(charge, what, stored, recomputed)

    def _full(self, charge: Charge) -> Usd | None:
        """What the usage costs, whoever bears it."""
        record = charge.record
        if not record.price_id:
            return ZERO
        price = self.prices.get(record.price_id)
        if price is None:
            return None
        return ZERO if price.free else price.cost(record.usage, record.markup_ppm)

    def _differs(self, charge: Charge, what: str, stored: Usd, recomputed: Usd | None) -> None:
        self.result.found += 1
        if self.result.found <= DIFFERENCES_MAX:
            self.result.differences.append(
                ChargeDiffers(
                    account_id=charge.account_id,
                    request_id=charge.request_id,
                    what=what,
                    stored_nanos=stored.nanos,
                    recomputed_nanos=None if recomputed is None else recomputed.nanos,
                )
            )

    def _count(self, charge: Charge) -> None:
        record = charge.record
        if not record.vendor:
            return
        of_vendor = self.vendors.setdefault(record.vendor, VendorTotal(vendor=record.vendor))
        of_vendor.requests += 1
        of_vendor.charged += charge.cost
        if record.vendor_cost is not None:
            of_vendor.told += 1
            of_vendor.charged_told += charge.cost
            of_vendor.vendor_cost += record.vendor_cost


def _bounds(month: str) -> tuple[datetime, datetime]:
    """When the month begins, and the next one."""
    if not _MONTH.fullmatch(month):
        raise InvalidRequest(f"{month[:40]!r} is no month; write it like 2026-11.", param="month")
    start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    return start, (start + timedelta(days=31)).replace(day=1)
