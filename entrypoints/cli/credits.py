"""`gatewayz credits`: giving, taking and showing credit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from entrypoints.cli.output import dollars, print_fields, print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container
from entrypoints.http.views import AdjustedView, BalanceView, read_usd, shown_adjusted, shown_balance

app = App(name="credits", help="Give, take and show credit.")

Amount = Annotated[str, Parameter(allow_leading_hyphen=True)]


@app.command
def grant(
    account: str,
    usd: Amount,
    *,
    reason: str,
    reference: str | None = None,
    expires: datetime | None = None,
    json: bool = False,
) -> None:
    """Give credit to an account.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    usd
        How much, such as 12.50.
    reason
        Why; it stands in the account's transactions.
    reference
        A name for this act, so that repeating it is refused instead of paid twice.
    expires
        When what is left of it ends, in UTC, such as 2027-01-31.
    json
        Print JSON.
    """
    ends = expires.replace(tzinfo=expires.tzinfo or UTC) if expires else None

    async def act(container: Container) -> AdjustedView:
        found = await container.use_cases.find_account()(account)
        amount = read_usd(usd, "usd")
        return shown_adjusted(
            await container.use_cases.grant_credit()(found.id, amount, reason, reference=reference, expires_at=ends)
        )

    _print(perform(act), json)


@app.command
def adjust(account: str, usd: Amount, *, reason: str, reference: str | None = None, json: bool = False) -> None:
    """Give credit, or take it where the amount is negative.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    usd
        How much, such as -2.50; no more is taken than can be spent.
    reason
        Why; it stands in the account's transactions.
    reference
        A name for this act, so that repeating it is refused.
    json
        Print JSON.
    """

    async def act(container: Container) -> AdjustedView:
        found = await container.use_cases.find_account()(account)
        amount = read_usd(usd, "usd")
        return shown_adjusted(await container.use_cases.adjust_credit()(found.id, amount, reason, reference=reference))

    _print(perform(act), json)


@app.command
def balance(account: str, *, json: bool = False) -> None:
    """Show what an account can spend, and where it comes from.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    json
        Print JSON.
    """

    async def act(container: Container) -> BalanceView:
        found = await container.use_cases.find_account()(account)
        return shown_balance(await container.use_cases.show_balance()(found.id))

    view = perform(act)
    if json:
        print_json(view)
        return
    print_fields(
        [
            ("Spendable", dollars(view.spendable_usd)),
            ("Held", dollars(view.held_usd)),
            ("Charged so far", dollars(view.charged_usd)),
        ]
    )
    if view.lots:
        print()
        rows = [
            (lot.source, dollars(lot.free_usd), dollars(lot.granted_usd), lot.expires_at, lot.id) for lot in view.lots
        ]
        print_table(("FROM", "LEFT", "OF", "EXPIRES", "LOT"), rows)


def _print(view: AdjustedView, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        print_fields(
            [("Booked", dollars(view.amount_usd)), ("Spendable", dollars(view.spendable_usd)), ("As", view.id)]
        )
