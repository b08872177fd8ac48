"""What account and admin routes show: amounts as decimal strings in USD, moments in UTC, secrets never."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from application.credits import Adjusted, Balance
from application.keys import Issued
from application.pages import Page
from domain.accounts import Account
from domain.catalog import Offer
from domain.credits import NEVER, Hold, Lot, Transfer
from domain.errors import InvalidRequest
from domain.keys import ApiKey, Budget, BudgetPeriod, Environment, Scope
from domain.limits import LimitSet
from domain.markups import Markup
from domain.money import Usd
from domain.pricing import EACH, Price, Rates, shown_rate
from domain.usage import Attempt, Generation, Outcome, Usage

NO_LIMIT = 10**12
"""Stands for a number that a key's own limits leave open."""


PerPeriod = Annotated[int, Meta(ge=1, le=NO_LIMIT)]


def read_usd(text: str, field: str) -> Usd:
    """Raises InvalidRequest."""
    try:
        return Usd.parse(text)
    except ValueError as error:
        raise InvalidRequest(f"{error}.", param=field) from None


class LimitsBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key's own rate limits; they can only lower its account's."""

    requests_per_minute: PerPeriod | UnsetType = UNSET
    requests_per_hour: PerPeriod | UnsetType = UNSET
    requests_per_day: PerPeriod | UnsetType = UNSET
    tokens_per_minute: PerPeriod | UnsetType = UNSET
    tokens_per_day: PerPeriod | UnsetType = UNSET
    burst: PerPeriod | UnsetType = UNSET
    concurrent: PerPeriod | UnsetType = UNSET

    def as_limits(self) -> LimitSet:
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return LimitSet(**{name: NO_LIMIT if value is UNSET else value for name, value in given.items()})


class BudgetBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a key may spend per period; without a period, in all."""

    amount_usd: str
    period: BudgetPeriod | None = None
    time_zone: str = "UTC"

    def as_budget(self) -> Budget:
        """Raises InvalidRequest."""
        return Budget(
            amount=read_usd(self.amount_usd, "budget.amount_usd"),
            period=self.period,
            time_zone=self.time_zone,
        )


class KeyView(Struct, frozen=True, kw_only=True):
    id: str
    key_name: str
    environment_tag: Environment
    prefix: str
    last4: str
    scope_permissions: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    max_requests: int | None
    budget: BudgetBody | None
    allowed_models: tuple[str, ...]
    ip_allowlist: tuple[str, ...]
    domain_referrers: tuple[str, ...]
    limits: LimitsBody | None


class IssuedKeyView(KeyView, frozen=True, kw_only=True):
    api_key: str
    """The whole key; it is shown this once."""


class KeysView(Struct, frozen=True):
    keys: tuple[KeyView, ...]
    next_cursor: str | None


class LotView(Struct, frozen=True, kw_only=True):
    id: str
    source: str
    granted_usd: str
    free_usd: str
    held_usd: str
    granted_at: datetime
    expires_at: datetime | None
    frozen: bool


class BalanceView(Struct, frozen=True, kw_only=True):
    user_id: str
    spendable_usd: str
    held_usd: str
    charged_usd: str
    lots: tuple[LotView, ...]
    """In the order in which they burn."""


class TransactionView(Struct, frozen=True, kw_only=True):
    id: str
    transaction_type: str
    amount_usd: str
    """Negative where credit left the account."""
    reference: str
    description: str
    created_at: datetime


class TransactionsView(Struct, frozen=True):
    transactions: tuple[TransactionView, ...]
    next_cursor: str | None


class AdjustedView(Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    amount_usd: str
    spendable_usd: str


class AccountView(Struct, frozen=True, kw_only=True):
    id: str
    email: str
    name: str
    status: str
    created_at: datetime


class AccountsView(Struct, frozen=True):
    users: tuple[AccountView, ...]
    next_cursor: str | None


class HoldView(Struct, frozen=True, kw_only=True):
    request_id: str
    user_id: str
    model: str
    amount_usd: str
    produced_usd: str
    """The cost of what had been produced when the serving process last wrote it down."""
    opened_at: datetime
    lease_until: datetime


class PriceView(Struct, frozen=True, kw_only=True):
    """One version of what a vendor asks for a model, before the markup."""

    id: str
    vendor: str
    model: str
    usd_per_million: dict[str, str]
    """By class of usage; a class that is not there costs what the class that it is part of costs."""
    usd_each: dict[str, str]
    """For one image, second, search or request."""
    image_usd: dict[str, str]
    """For one image of a size and quality, instead of what `usd_each` says."""
    over_input_tokens: dict[int, dict[str, str]]
    """The same for prompts longer than so many tokens."""
    free: bool
    source: str
    author: str
    valid_from: datetime


class OfferView(Struct, frozen=True, kw_only=True):
    """One vendor's way of serving one model, and what it costs."""

    model: str
    vendor: str
    vendor_model: str
    markup: str
    price: PriceView | None
    """None: it cannot be asked for until it has one."""


class DoubtView(Struct, frozen=True, kw_only=True):
    """An offer that does not cost what its vendor lists."""

    model: str
    vendor: str
    reason: str
    listed: PriceView | None
    """None: what the list says cannot be read as a price."""
    used: PriceView | None
    """What is charged instead; None: the offer is not used until it has a price."""


class DoubtsView(Struct, frozen=True):
    offers: tuple[DoubtView, ...]
    next_cursor: str | None


class PricesView(Struct, frozen=True):
    prices: tuple[PriceView, ...]


class MarkupView(Struct, frozen=True, kw_only=True):
    """A factor on vendors' prices; a part that is null stands for all of them."""

    vendor: str | None
    model: str | None
    plan: str | None
    markup: str
    author: str
    set_at: datetime


class MarkupsView(Struct, frozen=True):
    markups: tuple[MarkupView, ...]


class OffersView(Struct, frozen=True):
    offers: tuple[OfferView, ...]
    next_cursor: str | None


class GenerationView(Struct, frozen=True, kw_only=True):
    id: str
    model: str
    vendor: str
    dialect: str
    streamed: bool
    created_at: datetime
    outcome: Outcome
    finish_reason: str | None
    usage: Usage
    usage_estimated: bool
    cost_usd: str
    price_id: str
    markup: str
    attempts: tuple[Attempt, ...]
    first_token_ms: int | None
    duration_ms: int
    abort_policy: str | None


def shown_key(key: ApiKey) -> KeyView:
    policy = key.policy
    return KeyView(
        id=key.id,
        key_name=key.name,
        environment_tag=key.environment,
        prefix=key.prefix,
        last4=key.last4,
        scope_permissions=tuple(sorted(policy.scopes)),
        created_at=key.created_at,
        expires_at=policy.expires_at,
        revoked_at=key.revoked_at,
        max_requests=policy.requests_max,
        budget=_shown_budget(policy.budget) if policy.budget else None,
        allowed_models=policy.models,
        ip_allowlist=policy.addresses,
        domain_referrers=policy.referrers,
        limits=_shown_limits(policy.limits) if policy.limits else None,
    )


def shown_issued(issued: Issued) -> IssuedKeyView:
    return IssuedKeyView(**asdict(shown_key(issued.key)), api_key=issued.secret.text)


def _shown_budget(budget: Budget) -> BudgetBody:
    return BudgetBody(str(budget.amount), budget.period, budget.time_zone)


def _shown_limits(limits: LimitSet) -> LimitsBody:
    given = {name: getattr(limits, name) for name in limits.__struct_fields__}
    return LimitsBody(**{name: value for name, value in given.items() if value < NO_LIMIT})


def shown_keys(page: Page[ApiKey]) -> KeysView:
    return KeysView(tuple(map(shown_key, page.items)), page.next_cursor)


def shown_lot(lot: Lot) -> LotView:
    return LotView(
        id=lot.id,
        source=lot.source,
        granted_usd=str(lot.granted),
        free_usd=str(lot.free),
        held_usd=str(lot.held),
        granted_at=lot.granted_at,
        expires_at=None if lot.expires_at >= NEVER else lot.expires_at,
        frozen=lot.frozen,
    )


def shown_balance(balance: Balance) -> BalanceView:
    return BalanceView(
        user_id=balance.account_id,
        spendable_usd=str(balance.spendable),
        held_usd=str(balance.held),
        charged_usd=str(balance.charged),
        lots=tuple(map(shown_lot, balance.lots)),
    )


def shown_transaction(transfer: Transfer) -> TransactionView:
    left: Usd = transfer.amount if transfer.credit == transfer.account_id else -transfer.amount
    return TransactionView(
        id=transfer.id,
        transaction_type=transfer.kind,
        amount_usd=str(left),
        reference=transfer.reference,
        description=transfer.reason,
        created_at=transfer.at,
    )


def shown_transactions(page: Page[Transfer]) -> TransactionsView:
    return TransactionsView(tuple(map(shown_transaction, page.items)), page.next_cursor)


def shown_adjusted(adjusted: Adjusted) -> AdjustedView:
    return AdjustedView(
        id=adjusted.transfer_id,
        user_id=adjusted.account_id,
        amount_usd=str(adjusted.amount),
        spendable_usd=str(adjusted.spendable),
    )


def shown_account(account: Account) -> AccountView:
    return AccountView(
        id=account.id,
        email=account.email,
        name=account.name,
        status=account.status,
        created_at=account.created_at,
    )


def shown_accounts(page: Page[Account]) -> AccountsView:
    return AccountsView(tuple(map(shown_account, page.items)), page.next_cursor)


def shown_hold(hold: Hold) -> HoldView:
    return HoldView(
        request_id=hold.id,
        user_id=hold.account_id,
        model=hold.record.model,
        amount_usd=str(hold.amount),
        produced_usd=str(hold.watermark),
        opened_at=hold.opened_at,
        lease_until=hold.lease_until,
    )


def shown_price(price: Price) -> PriceView:
    return PriceView(
        id=price.id,
        vendor=price.vendor,
        model=price.model,
        usd_per_million=_shown_rates(price.rates, each=False),
        usd_each=_shown_rates(price.rates, each=True),
        image_usd={each.variant: shown_rate(each.rate, "images") for each in price.image_rates},
        over_input_tokens={tier.over_input_tokens: _shown_rates(tier.rates, each=False) for tier in price.tiers},
        free=price.free,
        source=price.source,
        author=price.author,
        valid_from=price.valid_from,
    )


def _shown_rates(rates: Rates, *, each: bool) -> dict[str, str]:
    """Of what is counted by the piece, or of all else."""
    given = {name: getattr(rates, name) for name in rates.__struct_fields__ if (name in EACH) is each}
    return {name: shown_rate(rate, name) for name, rate in given.items() if rate or name in {"input", "output"}}


def shown_markup(markup: Markup) -> MarkupView:
    scope = markup.scope
    return MarkupView(
        vendor=scope.vendor or None,
        model=scope.model or None,
        plan=scope.plan or None,
        markup=shown_factor(markup.ppm),
        author=markup.author,
        set_at=markup.set_at,
    )


def shown_doubt(offer: Offer) -> DoubtView:
    listed = offer.doubt.listed if offer.doubt else None
    return DoubtView(
        model=offer.model,
        vendor=offer.vendor,
        reason=offer.doubt.reason if offer.doubt else "",
        listed=shown_price(listed) if listed else None,
        used=shown_price(offer.price) if offer.price else None,
    )


def shown_offers(page: Page[Offer]) -> OffersView:
    return OffersView(
        tuple(
            OfferView(
                model=offer.model,
                vendor=offer.vendor,
                vendor_model=offer.vendor_model,
                markup=shown_factor(offer.markup_ppm),
                price=shown_price(offer.price) if offer.price else None,
            )
            for offer in page.items
        ),
        page.next_cursor,
    )


def shown_generation(record: Generation) -> GenerationView:
    return GenerationView(
        id=record.id,
        model=record.model,
        vendor=record.vendor,
        dialect=record.dialect,
        streamed=record.streamed,
        created_at=record.started_at,
        outcome=record.outcome,
        finish_reason=record.finish_reason,
        usage=record.usage,
        usage_estimated=record.estimated,
        cost_usd=str(record.cost),
        price_id=record.price_id,
        markup=shown_factor(record.markup_ppm),
        attempts=record.attempts,
        first_token_ms=record.first_token_ms,
        duration_ms=record.duration_ms,
        abort_policy=record.abort_policy,
    )


def shown_factor(ppm: int) -> str:
    """Parts per million as a plain decimal: "1.25"."""
    whole, rest = divmod(ppm, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
