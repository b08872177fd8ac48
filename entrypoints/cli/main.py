"""`gatewayz`: the one command.  Each of its commands is imported only when it is asked for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from entrypoints.version import gateway_version

DONE, REFUSED, USAGE, MISCONFIGURED, INTERRUPTED = 0, 1, 2, 78, 130
COLLECT_AFTER = 50_000
"""New objects between two collections: imports make many and leave none, and looking takes a tenth of a start."""


app = App(
    name="gatewayz",
    help="A self-hosted AI gateway that sells access to models.",
    version=gateway_version,
    default_parameter=Parameter(negative=""),
)
app.command("entrypoints.cli.running:serve", help="Serve requests until stopped.", sort_key=1)
app.command("entrypoints.cli.running:worker", help="Do the background work alone.", sort_key=2)
app.command("entrypoints.cli.running:migrate", help="Bring the database's schema up to date.", sort_key=3)
app.command(
    "entrypoints.cli.moving:migrate_to_postgres",
    name="migrate-to-postgres",
    help="Move the embedded database to PostgreSQL.",
    sort_key=3,
)
app.command("entrypoints.cli.backup:backup", help="Copy the embedded database to a file.", sort_key=3)
app.command(
    "entrypoints.cli.connect:connect", help="Set up Claude Code, Codex and other clients for this gateway.", sort_key=4
)
app.command("entrypoints.cli.doctor:doctor", help="Check every setting, connection and vendor.", sort_key=4)
app.command("entrypoints.cli.accounts:app", name="accounts", help="Open, list, suspend and restore accounts.")
app.command("entrypoints.cli.keys:app", name="keys", help="Make, list and revoke API keys.")
app.command("entrypoints.cli.credits:app", name="credits", help="Give, take and show credit.")
app.command("entrypoints.cli.prices:app", name="prices", help="Set and list what models cost.")
app.command(
    "entrypoints.cli.catalog:app", name="catalog", help="List models, ask vendors for theirs, add names and offers."
)
app.command("entrypoints.cli.vendors:app", name="vendors", help="Switch vendors on and off, and see how they are.")
app.command("entrypoints.cli.ledger:app", name="ledger", help="Check the books.")


def main() -> None:
    gc.set_threshold(COLLECT_AFTER)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit status of one command: 0 done, 1 refused with a reason, 2 wrong usage, 78 wrong settings."""
    try:
        status = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still to be written must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        status = _told(error, as_json="--json" in arguments)
        if status is None:
            raise
    return status if isinstance(status, int) else DONE


def _told(error: Exception, *, as_json: bool) -> int | None:
    """Say what a foreseen error means and what to do; None for one that nobody foresaw."""
    from domain.errors import DomainError, StorageUnavailable
    from entrypoints.cli.output import refuse
    from entrypoints.environment import SettingsError

    match error:
        case SettingsError():
            refuse("settings_wrong", "\n".join(map(str, error.problems)), as_json=as_json)
            return MISCONFIGURED
        case StorageUnavailable():
            cure = "Check DATABASE_URL, or run 'gatewayz doctor'."
            refuse(error.code, f"{error.message} {cure}", as_json=as_json)
            return REFUSED
        case DomainError():
            refuse(error.code, error.message, as_json=as_json)
            return REFUSED
        case _:
            return None


if __name__ == "__main__":
    main()
