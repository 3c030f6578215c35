"""The table of bad input, against the command line in this process and the API of a running node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from taxledger.nodes.cli.main import main

from .bad import COMMANDS, REQUESTS, Command, Kit, Request, bad_kit, judge, judge_answer


class Said(NamedTuple):
    status: int
    out: str
    err: str


def _run(*arguments: object) -> Said:
    return Said(main([str(each) for each in arguments]), "", "")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with bad_kit(tmp_path_factory.mktemp("bad"), _run) as made:
        yield made
        for log in made.net.glob("*/log/*"):
            assert "Traceback" not in log.read_text("utf-8", "replace"), log


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: f"{each.area}: {each.what}")
def test_command(kit: Kit, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(each) for each in command.arguments(kit)]
    capsys.readouterr()
    status = main(arguments)
    said = capsys.readouterr()
    assert judge(command, Said(status, said.out, said.err)) == ""


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.what)
def test_request(kit: Kit, request_: Request) -> None:
    assert judge_answer(request_, *request_.send(kit.bank)) == ""


def test_names_are_told_once() -> None:
    names = [f"{each.area}: {each.what}" for each in COMMANDS] + [each.what for each in REQUESTS]
    assert len(names) == len(set(names)) >= 40


def test_the_judge_sees_bugs() -> None:
    command = COMMANDS[0]
    assert "bug" in judge(command, Said(2, "", "taxledger: unexpected KeyError, a bug of ours"))
    assert "exit status" in judge(command, Said(1, "", "No such command"))
    assert "does not say" in judge(command, Said(2, "", "what?"))
    assert judge(command, Said(2, "", "No such command 'evidense'")) == ""
