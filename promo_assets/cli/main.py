"""The command ``promo``: every command gathered, errors told in one line, exit codes.

Exit codes: 0 done; 1 a gate or a run failed; 2 wrong usage or wrong settings; 130 stopped. A
user's mistake gives one line, never a traceback. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal

from cyclopts import App, CycloptsError, UnknownCommandError

from promo_assets.cli import bringing, deciding, forgetting, running
from promo_assets.cli.arguments import SHELL, UsageError
from promo_assets.cli.stopping import CODE, STOPPED

app = App(
    name="promo",
    help="Personalised promotions, decided and measured daily.",
    version=lambda: f"promo-assets {version('promo-assets')}",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for room in (running, deciding, forgetting, bringing):
    room.add_to(app)
app.register_install_completion_command(group=SHELL)
for flag in ("--help", "--version"):
    app[flag].group = (SHELL,)


@app.command(group=SHELL)
def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion script of a shell; --install-completion installs it."""
    print(app.generate_completion(prog_name="promo", shell=shell))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    try:
        code = app(
            tokens or ["--help"],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return int(code or 0)
    except UnknownCommandError:
        near = difflib.get_close_matches(tokens[0], app, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return _complain(f"{tokens[0]!r} is not a command{hint} See `promo --help`", 2)
    except CycloptsError as error:
        asked = next((token for token in tokens if token in app), "")
        told = " ".join(str(error).replace('"', "'").split()).rstrip(".")
        return _complain(f"{told}; see `{' '.join(filter(None, ('promo', asked)))} --help`", 2)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return CODE
    except Exception as error:
        if known := _expected(error):
            return _complain(str(error), known)
        raise


def _expected(error: Exception) -> int | None:
    """The exit code of an error whose message is meant for users; None for a defect."""
    from promo_assets.cli.explanation import UnknownUserError
    from promo_assets.contract.tables import ContractError
    from promo_assets.orchestration.runs import RunError
    from promo_assets.people.pseudonyms import PseudonymKeyError
    from promo_assets.privacy.erasure import UnknownPersonError
    from promo_assets.privacy.mentions import BusyFileError
    from promo_assets.settings import SettingsError
    from promo_assets.sources import SourceError
    from promo_assets.strategy.offers.catalogue import CatalogueError
    from promo_assets.tables.rollback import RollbackError
    from promo_assets.warehouse.connection import WarehouseError
    from promo_assets.warehouse.models.model import ModelError

    usage = (UsageError, SettingsError, ContractError, RunError, PseudonymKeyError, SourceError)
    files = (CatalogueError, ModelError, UnknownUserError, UnknownPersonError, RollbackError)
    if isinstance(error, (*usage, *files)):
        return 2
    return 1 if isinstance(error, (WarehouseError, BusyFileError)) else None


def _complain(told: str, code: int) -> int:
    print(f"promo: {told}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
