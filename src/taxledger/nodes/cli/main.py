"""The command ``taxledger``. Exit status 0: done, verified; 1: refused, not verified; 2: wrong usage.

Nothing a person can do gives a traceback: what is expected to fail says what was expected and what was found.
What is not is a bug: one line, and the details in a file (``TAXLEDGER_DEBUG=1`` shows them).
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from taxledger import __version__
from taxledger.ledger.errors import InputError, TaxledgerError
from taxledger.nodes.cli import (
    admission,
    attest,
    backup,
    batch,
    change,
    consent,
    demo,
    disclosures,
    engine,
    erase,
    evidence,
    fork,
    generate,
    ledger,
    ledgercheck,
    member,
    network,
    pledge,
    policy,
    snapshot,
    vault,
    walletfile,
)
from taxledger.nodes.cli.lend import group as lend
from taxledger.nodes.cli.output import note
from taxledger.nodes.cli.wording import (
    CONSENT_REFUSALS_ZH,
    NODE_REFUSALS_ZH,
    PLEDGE_REFUSALS_ZH,
    POLICY_REFUSALS_ZH,
    refused_zh,
)

__all__ = ["app", "main", "run"]

_DONE, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="taxledger",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A permissioned ledger of attested facts about enterprises, checked offline by proof.",
)
network.register(app)
engine.register(app)
attest.register(app)
batch.register(app)
change.register(app)
erase.register(app)
evidence.register(app)
walletfile.register(app)
consent.register(app)
pledge.register(app)
disclosures.register(app)
ledger.register(app)
ledgercheck.register(app)
policy.register(app)
member.register(app)
fork.register(app)
snapshot.register(app)
admission.register(app)
backup.register(app)
vault.register(app)
lend.register(app)
generate.register(app)
demo.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"taxledger {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def _report_bug(error: BaseException) -> None:
    if os.environ.get("TAXLEDGER_DEBUG"):
        traceback.print_exception(error)
        return
    with tempfile.NamedTemporaryFile(
        "w", prefix="taxledger-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    note(f"taxledger: unexpected {type(error).__name__}, a bug of ours; the details are in {file.name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    try:
        app(list(arguments) if arguments is not None else None)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else _DONE
    except InputError as error:
        note(f"taxledger: {error}")
        return _USAGE
    except TaxledgerError as error:
        note(f"taxledger: {error}")
        # What an enterprise or a credit officer may meet is said in Chinese, too.
        spoken = {*CONSENT_REFUSALS_ZH, *NODE_REFUSALS_ZH, *PLEDGE_REFUSALS_ZH, *POLICY_REFUSALS_ZH}
        if getattr(error, "code", None) in {*spoken, "policy_outdated"}:
            note(refused_zh(error.code))  # type: ignore[attr-defined]
        return _FAILED
    except KeyboardInterrupt:
        note("taxledger: interrupted; what was attested stays, run it again to go on")
        return _INTERRUPTED
    except BrokenPipeError:  # `taxledger … | head`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 — the interpreter flushes it at exit
        return _DONE
    except Exception as error:
        _report_bug(error)
        return _FAILED
    return _DONE


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
