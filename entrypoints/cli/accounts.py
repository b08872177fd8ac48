"""`gatewayz accounts`: opening, listing, suspending and restoring accounts."""

from __future__ import annotations

from cyclopts import App

from entrypoints.cli.output import print_fields, print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container
from entrypoints.http.views import AccountsView, AccountView, shown_account, shown_accounts

app = App(name="accounts", help="Open, list, suspend and restore accounts.")


@app.command
def create(email: str, *, name: str = "", json: bool = False) -> None:
    """Open an account.

    Parameters
    ----------
    email
        Its e-mail address; every address has one account.
    name
        How to call its owner.
    json
        Print JSON.
    """

    async def act(container: Container) -> AccountView:
        return shown_account(await container.use_cases.create_account()(email, name))

    _print(perform(act), json)


@app.command(name="list")
def list_accounts(*, limit: int = 50, cursor: str | None = None, json: bool = False) -> None:
    """List accounts, oldest first.

    Parameters
    ----------
    limit
        How many, at most 100.
    cursor
        The next_cursor of the page before.
    json
        Print JSON.
    """

    async def act(container: Container) -> AccountsView:
        return shown_accounts(await container.use_cases.list_accounts()(limit, cursor))

    view = perform(act)
    if json:
        print_json(view)
        return
    rows = [(each.id, each.email, each.name, each.status, each.created_at) for each in view.users]
    print_table(("ID", "E-MAIL", "NAME", "STATUS", "SINCE"), rows)
    if view.next_cursor:
        print(f"More: --cursor {view.next_cursor}")


@app.command
def show(account: str, *, json: bool = False) -> None:
    """Show one account.

    Parameters
    ----------
    account
        Its id, its e-mail address, or "admin".
    json
        Print JSON.
    """

    async def act(container: Container) -> AccountView:
        return shown_account(await container.use_cases.find_account()(account))

    _print(perform(act), json)


@app.command
def suspend(account: str, *, json: bool = False) -> None:
    """Refuse all keys of an account from now on.

    Parameters
    ----------
    account
        Its id, its e-mail address, or "admin".
    json
        Print JSON.
    """

    async def act(container: Container) -> AccountView:
        find_account = container.use_cases.find_account()
        found = await find_account(account)
        await container.use_cases.suspend_account()(found.id)
        return shown_account(await find_account(found.id))

    _print(perform(act), json)


@app.command
def restore(account: str, *, json: bool = False) -> None:
    """Accept the keys of a suspended account again.

    Parameters
    ----------
    account
        Its id, its e-mail address, or "admin".
    json
        Print JSON.
    """

    async def act(container: Container) -> AccountView:
        find_account = container.use_cases.find_account()
        found = await find_account(account)
        await container.use_cases.restore_account()(found.id)
        return shown_account(await find_account(found.id))

    _print(perform(act), json)


def _print(view: AccountView, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        print_fields([("Id", view.id), ("E-mail", view.email), ("Name", view.name), ("Status", view.status)])
