"""``taxledger lend serve``: the lender's service, with the watch and its webhooks, until SIGTERM.

It ends in this order: open requests are answered, the running step of each loan ends (or dies with the process, and
is gone on with at the next start), the watch stops, the database is closed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError, InvariantError, UnavailableError
from taxledger.nodes.cli.lend.keys import keys_path
from taxledger.nodes.cli.lend.opening import lending_folder, opened_desk
from taxledger.nodes.cli.output import HomeOption, JsonOption, note, open_home, print_json, say

if TYPE_CHECKING:
    from taxledger.api.auth import KeyFile
    from taxledger.api.server import ApiServer
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.service.access import Caller

__all__ = ["register"]

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:]{2,39})\]|([0-9A-Za-z.-]{1,253})):([0-9]{1,5})")
_FATAL_EXIT_STATUS = 70


class _KeyCallers:
    """``Callers`` of a file of keys: a key's note is its name, and its channel."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys

    def find(self, token: str) -> Caller | None:
        from taxledger.lending.service.access import Caller

        key = self._keys.find(token)
        return None if key is None else Caller(key=key.id, name=key.note, scopes=key.scopes)


def _stop_process(_error: InvariantError) -> None:
    os._exit(_FATAL_EXIT_STATUS)


def serve(
    home: HomeOption,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Instead of the one in lending.toml; port 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    as_json: JsonOption = False,
) -> None:
    """Serve the lender's API: applications, loans, papers; goes on with every loan that was cut off, and watches.

    Listens on loopback; anywhere else only with a certificate ([service] in lending.toml). Says where, once it does.

    Example: taxledger lend serve --home net/bank1 --listen 127.0.0.1:8500
    """
    try:
        from taxledger.api.auth import KeyFile
        from taxledger.api.server import ApiServer, check_bind
        from taxledger.lending.loans.holding import hold_file
        from taxledger.lending.service.app import begin_shutdown, create_service
        from taxledger.lending.service.minding import Minder
        from taxledger.lending.service.worker import Worker
        from taxledger.lending.settings import load_settings
        from taxledger.nodes.logs import configure_logs
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"this command needs {error.name}: pip install 'taxledger[lending]' installs it"
        ) from error
    if log_level not in ("debug", "info", "warning", "error"):
        raise InputError(f"expected --log-level debug, info, warning or error, got {log_level!r:.20}")
    settings = load_settings(lending_folder(open_home(home).path))
    host, port = _host_port(listen or settings.listen)
    check_bind(host, settings.certificate)
    keys = keys_path(settings.folder)
    if not keys.exists():
        raise InputError(f"nobody could call it: `taxledger lend key create NAME --home {home}` makes a key")
    callers = _KeyCallers(KeyFile(keys))
    with opened_desk(home) as desk, hold_file(settings.folder, "service.lock") as alone:
        if not alone:
            raise UnavailableError(f"{settings.folder}: another service runs there")
        configure_logs(log_level)
        worker = Worker(desk, on_invariant=_stop_process, threads=settings.workers)
        minder = Minder(
            desk.watcher(),
            desk.courier(),
            desk.client,
            begin=desk.watched_from,
            on_invariant=_stop_process,
        )
        server = ApiServer(
            create_service(desk, worker, callers, on_invariant=_stop_process),
            host=host,
            port=port,
            certificate=settings.certificate,
            private_key=settings.private_key,
            on_shutdown=begin_shutdown,
        )
        worker.start()
        minder.start()
        try:
            asyncio.run(_run(server, desk, host, as_json=as_json))
        finally:
            worker.stop()
            minder.stop()
    note("stopped")


async def _run(server: ApiServer, desk: LendingDesk, host: str, *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    serving = asyncio.ensure_future(server.serve())
    listening = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait([serving, listening], return_when=asyncio.FIRST_COMPLETED)
    if listening.done():
        scheme = "http" if desk.settings.certificate is None else "https"
        shown = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{shown}:{server.bound_port}"
        if as_json:
            print_json({"url": url})
        else:
            say(f"listening on {url}")
        sys.stdout.flush()
    listening.cancel()
    await serving


def _host_port(text: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise InputError(f"expected --listen HOST:PORT, got {text!r:.60}")
    return match[1] or match[2], int(match[3])


def register(group: typer.Typer) -> None:
    """Add the command to ``lend``."""
    group.command()(serve)
