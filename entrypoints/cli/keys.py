"""`gatewayz keys`: making, listing and revoking API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from domain.errors import InvalidRequest
from domain.ids import KeyId
from domain.keys import ADMIN_KEY_SCOPES, NEW_KEY_SCOPES, Budget, BudgetPeriod, Environment, KeyPolicy, Scope
from entrypoints.cli.output import print_fields, print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container
from entrypoints.http.views import IssuedKeyView, KeysView, KeyView, read_usd, shown_issued, shown_key, shown_keys

app = App(name="keys", help="Make, list and revoke API keys.")

Several = Annotated[tuple[str, ...], Parameter(consume_multiple=False, show_default=False)]


@app.command
def create(
    account: str,
    *,
    name: str,
    environment: Environment = Environment.LIVE,
    scope: Several = (),
    admin: bool = False,
    expires_days: int | None = None,
    max_requests: int | None = None,
    budget: str | None = None,
    period: BudgetPeriod | None = None,
    time_zone: str = "UTC",
    model: Several = (),
    address: Several = (),
    referrer: Several = (),
    json: bool = False,
) -> None:
    """Make a key; it is printed this once.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    name
        What to call the key; an account's keys have different names.
    environment
        What it is for; keys that are not live have half the limits.
    scope
        What it may do, such as inference or keys:write; may be repeated; by default inference and reading.
    admin
        Let it do everything.
    expires_days
        For how many days it works.
    max_requests
        For how many requests it works.
    budget
        What it may spend, in USD.
    period
        Start the budget anew each day, week or month.
    time_zone
        Where the day of the budget begins at midnight, such as Europe/Berlin.
    model
        A model that it may use, or a pattern such as acme/*; may be repeated.
    address
        An address or network that it may be used from; may be repeated.
    referrer
        A host whose pages may use it; may be repeated.
    json
        Print JSON.
    """
    policy = KeyPolicy(
        scopes=ADMIN_KEY_SCOPES if admin else frozenset(map(_read_scope, scope)) or NEW_KEY_SCOPES,
        requests_max=max_requests,
        models=model,
        addresses=address,
        referrers=referrer,
        budget=Budget(amount=read_usd(budget, "budget"), period=period, time_zone=time_zone) if budget else None,
    )

    async def act(container: Container) -> IssuedKeyView:
        found = await container.use_cases.find_account()(account)
        issued = await container.use_cases.issue_key()(
            found.id,
            name,
            environment=environment,
            policy=policy,
            lifetime=None if expires_days is None else timedelta(days=expires_days),
        )
        return shown_issued(issued)

    view = perform(act)
    if json:
        fields = msgspec.to_builtins(view)
        print_json({"id": view.id, "key": fields.pop("api_key"), **fields})
    else:
        print_fields([("Id", view.id), ("Key", view.api_key), ("", "(shown this once; keep it)")])


def _read_scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no scope; there are {', '.join(Scope)}.", param="scope") from None


@app.command(name="list")
def list_keys(account: str, *, limit: int = 50, cursor: str | None = None, json: bool = False) -> None:
    """List an account's keys, without their secrets.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    limit
        How many, at most 100.
    cursor
        The next_cursor of the page before.
    json
        Print JSON.
    """

    async def act(container: Container) -> KeysView:
        found = await container.use_cases.find_account()(account)
        return shown_keys(await container.use_cases.list_keys()(found.id, limit, cursor))

    view = perform(act)
    if json:
        print_json(view)
        return
    rows = [
        (key.id, key.key_name, f"{key.prefix}...{key.last4}", key.scope_permissions, key.expires_at)
        for key in view.keys
    ]
    print_table(("ID", "NAME", "KEY", "SCOPES", "EXPIRES"), rows)
    if view.next_cursor:
        print(f"More: --cursor {view.next_cursor}")


@app.command
def revoke(account: str, key: str, *, json: bool = False) -> None:
    """Refuse a key from now on, for good.

    Parameters
    ----------
    account
        The account's id, its e-mail address, or "admin".
    key
        The key's id.
    json
        Print JSON.
    """

    async def act(container: Container) -> KeyView:
        found = await container.use_cases.find_account()(account)
        return shown_key(await container.use_cases.revoke_key()(found.id, KeyId(key)))

    view = perform(act)
    if json:
        print_json(view)
    else:
        print_fields([("Id", view.id), ("Name", view.key_name), ("Revoked", view.revoked_at)])
