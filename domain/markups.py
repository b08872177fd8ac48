"""What is put on top of vendors' prices: a rule may name a vendor, a model, a plan, or any of them together.

Price = vendor's price x markup, rounded up once per charge.  Of the rules that fit, the most specific one holds, and it
alone; they do not multiply.  A rule that names the plan wins over one that does not, then the one that names the model
(an id over a pattern, a longer pattern over a shorter one), then the one that names the vendor.  Where none fits, the
gateway's own markup holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase

from msgspec import Struct

from domain.errors import InvalidRequest, NotFound
from domain.ids import ModelId, PlanId, VendorSlug
from domain.pricing import MARKUP_ONE_PPM

MARKUP_MAX_PPM = 1_000 * MARKUP_ONE_PPM
PATTERN_LENGTH_MAX = 200
ANY = ""
"""Stands for every vendor, model or plan."""


class UnknownMarkup(NotFound):
    code = "markup_not_found"


class MarkupScope(Struct, frozen=True, order=True):
    """What a markup is for.  An empty part stands for all of them."""

    vendor: VendorSlug = VendorSlug(ANY)
    model: str = ANY
    """A canonical id, or a pattern such as "anthropic/*"."""
    plan: PlanId = PlanId(ANY)

    @property
    def is_pattern(self) -> bool:
        return any(sign in self.model for sign in "*?[")

    def fits(self, vendor: VendorSlug, model: ModelId) -> bool:
        """Whatever the plan."""
        if self.vendor and self.vendor != vendor:
            return False
        return not self.model or self.model == model or (self.is_pattern and fnmatchcase(model, self.model))

    @property
    def specificity(self) -> tuple[bool, bool, int, bool, str]:
        """Larger for the rule that wins; the pattern's own text decides between patterns of one length."""
        literal = sum(sign not in "*?[]" for sign in self.model)
        exact = bool(self.model) and not self.is_pattern
        return bool(self.plan), exact, literal + bool(self.model), bool(self.vendor), self.model

    def __str__(self) -> str:
        named = [("vendor", self.vendor), ("model", self.model), ("plan", self.plan)]
        return ", ".join(f"{word} {value}" for word, value in named if value) or "everything"


class Markup(Struct, frozen=True, kw_only=True):
    """A rule as it is stored; of one scope there is one."""

    scope: MarkupScope
    ppm: int
    author: str = ""
    set_at: datetime


class MarkupTable:
    """All rules at one moment."""

    def __init__(self, rules: Iterable[Markup] = (), otherwise_ppm: int = MARKUP_ONE_PPM) -> None:
        ordered = sorted(rules, key=lambda rule: rule.scope.specificity, reverse=True)
        self._general = [rule for rule in ordered if not rule.scope.plan]
        self._by_plan: dict[PlanId, list[Markup]] = {}
        for rule in ordered:
            if rule.scope.plan:
                self._by_plan.setdefault(rule.scope.plan, []).append(rule)
        self._otherwise_ppm = otherwise_ppm

    def ppm(self, vendor: VendorSlug, model: ModelId, plan: PlanId | None = None) -> int:
        """The markup of one vendor's offer of a model, for callers on this plan."""
        rules = [*self._by_plan.get(plan, ()), *self._general] if plan else self._general
        return next((rule.ppm for rule in rules if rule.scope.fits(vendor, model)), self._otherwise_ppm)

    def by_plan(self, vendor: VendorSlug, model: ModelId) -> tuple[tuple[PlanId, int], ...]:
        """The plans that have a markup of their own for this offer."""
        found: dict[PlanId, int] = {}
        for plan, rules in self._by_plan.items():
            for rule in rules:
                if rule.scope.fits(vendor, model):
                    found[plan] = rule.ppm
                    break
        return tuple(sorted(found.items()))


def parse_markup(text: str) -> int:
    """A factor such as "1.2" in parts per million.  Raises InvalidRequest."""
    try:
        ppm = Decimal(text.strip()) * MARKUP_ONE_PPM
    except ArithmeticError:
        raise InvalidRequest(
            f"{text[:40]!r} is no markup; write it like 1.25 for 25 % on top.", param="markup"
        ) from None
    if not ppm.is_finite() or not 0 < ppm <= MARKUP_MAX_PPM:
        raise InvalidRequest("A markup is more than 0 and at most 1000; 1.25 means 25 % on top.", param="markup")
    if ppm != ppm.to_integral_value():
        raise InvalidRequest("A markup has at most six decimals.", param="markup")
    return int(ppm)
