"""``taxledger fork``: evidence that a member signed two statements which no honest validator signs both.

``verify`` needs a file and a policy and asks nobody. ``submit`` puts the evidence on the ledger, where every validator
verifies it again and suspends the member.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.nodes.cli.output import HomeOption, JsonOption, note, open_home, print_json, read_file, say

if TYPE_CHECKING:
    from taxledger.ledger.forkformat import CosignFork, ForkEvidence, VoteFork

__all__ = ["register"]

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Fork evidence, as nodes keep it in forks/.")
]


def _instant(time_s: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(time_s, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"second {time_s}"


def _read(path: Path) -> tuple[bytes, ForkEvidence]:
    from taxledger.ledger.forkformat import decode_fork

    data = read_file(path, bytes_max=limits.fork_bytes_max)
    if b"fork_suspicion" in data[:32]:
        raise VerificationError(
            "malformed", "this is a suspicion: it convicts nobody by itself (see fork show)"
        )
    return data, decode_fork(data)


# --- words ---------------------------------------------------------------------------------------


def _statements(fork: ForkEvidence) -> list[str]:
    """What was signed, one line each."""
    from taxledger.ledger.forkformat import CosignFork

    return _of_cosignatures(fork) if isinstance(fork, CosignFork) else _of_votes(fork)


def _of_cosignatures(fork: CosignFork) -> list[str]:
    from taxledger.ledger.forkformat import OtherBeginning, TwoLeaves

    lines = []
    for each in fork.signers:
        for tree, time_s in ((fork.first, each.time_s), (fork.second, each.other_time_s)):
            lines.append(
                f"{each.key.name} co-signed at {_instant(time_s)} that the log {tree.origin} of {tree.size} leaves "
                f"has the root {tree.root.hex()}"
            )
    match fork.contradiction:
        case OtherBeginning(root=root):
            lines.append(
                f"but the first {fork.first.size} leaves of the larger log have the root {root.hex()}: it does not "
                "begin with the smaller one"
            )
        case TwoLeaves(index=index, leaf=leaf, other_leaf=other):
            lines.append(f"but at index {index} stand two leaves: {leaf.hex()} and {other.hex()}")
        case None:
            lines.append("but a log of one size has one root")
    return lines


def _of_votes(fork: VoteFork) -> list[str]:
    lines = [
        f"member {fork.member} voted for header {header.hex()} at height {fork.height}"
        for header, _ in fork.votes
    ]
    return [*lines, "but a validator votes for one header at a height"]


def _document(fork: ForkEvidence, names: list[str] | None) -> dict[str, Any]:
    from taxledger.ledger.forkformat import CosignFork

    kind = "cosignatures" if isinstance(fork, CosignFork) else "votes"
    return {"kind": kind, "convicted": names, "statements": _statements(fork)}


# --- commands ------------------------------------------------------------------------------------


def verify(
    file: FileArgument,
    policy: Annotated[
        Path, typer.Option("--policy", metavar="FILE", help="Whose keys they are.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Whom a file convicts, offline. Exit status 0: it does; 1: it convicts nobody, and why.

    Example: taxledger fork verify net/bank1/forks/3f2a9c01d4e5b677.fork --policy net/policy.txt
    """
    from taxledger.ledger.fork import verify_fork
    from taxledger.ledger.policy import decode_policy

    trusted = decode_policy(read_file(policy, bytes_max=limits.policy_bytes_max))
    data, fork = _read(file)
    names = list(verify_fork(data, trusted))
    if as_json:
        print_json(_document(fork, names))
        return
    for name in names:
        say(f"convicted  {name}")
    for line in _statements(fork):
        say(f"           {line}")


def show(file: FileArgument, as_json: JsonOption = False) -> None:
    """What a file says, evidence or suspicion; nothing is verified.

    Example: taxledger fork show net/bank1/forks/3f2a9c01d4e5b677.fork
    """
    from taxledger.ledger import canonical
    from taxledger.ledger.forkformat import decode_fork

    data = read_file(file, bytes_max=1 << 20)
    value = canonical.decode(data)
    if type(value) is list and len(value) == 3 and value[:2] == [1, "fork_suspicion"]:
        print_json({"kind": "suspicion", "convicted": None, "statements": value[2]})
        return
    fork = decode_fork(data)
    if as_json:
        print_json(_document(fork, None))
        return
    for line in _statements(fork):
        say(line)
    note("not verified: taxledger fork verify FILE --policy POLICY")


def list_forks(home: HomeOption, as_json: JsonOption = False) -> None:
    """What this home's node has found.

    Example: taxledger fork list --home net/bank1
    """
    from taxledger.ledger.fork import verify_fork
    from taxledger.ledger.policy import decode_policy
    from taxledger.nodes.forks.files import FOLDER

    opened = open_home(home)
    policy = decode_policy(opened.policy())
    facts = []
    for path in sorted((opened.path / FOLDER).glob("*.*")):
        names: list[str] = []
        problem = "" if path.suffix == ".fork" else "suspicion"
        if path.suffix == ".fork":
            try:
                names = list(verify_fork(read_file(path, bytes_max=limits.fork_bytes_max), policy))
            except VerificationError as error:
                problem = str(error)
        facts.append({"file": str(path), "convicted": names, "problem": problem})
    if as_json:
        print_json(facts)
        return
    for each in facts:
        say(f"{each['file']}  {', '.join(each['convicted']) or each['problem']}")
    if not facts:
        note("nothing found")


def submit(home: HomeOption, file: FileArgument) -> None:
    """Put evidence on the ledger: each member that it convicts is suspended two blocks later. A validator's command.

    Example: taxledger fork submit --home net/bank1 net/bank1/forks/3f2a9c01d4e5b677.fork
    """
    from taxledger.ledger.conviction import member_convict
    from taxledger.ledger.fork import narrow_fork
    from taxledger.ledger.forkformat import VoteFork, encode_fork
    from taxledger.ledger.operations import encode_propose
    from taxledger.nodes.cli.office import open_office, say_state
    from taxledger.nodes.identity.membership import what_changes

    _, fork = _read(file)
    with open_office(home) as office:
        by_name = {each.name: each for each in office.now.members}
        if isinstance(fork, VoteFork):
            accused = [each for each in office.now.members if each.number == fork.member]
        else:
            names = [each.key.name.rpartition("/")[2] for each in fork.signers]
            accused = [by_name[name] for name in names if name in by_name]
        if not accused:
            raise InputError(f"{file} names nobody who is on this ledger")
        for member in accused:
            if not member.is_validator:
                note(f"{member.name} is no active validator: nothing to do")
                continue
            change = member_convict(member.number, encode_fork(narrow_fork(fork, member.name)))
            say(what_changes(change, office.now.members))
            try:
                receipt = office.submit(encode_propose(change))
            except RefusedError as error:
                if error.code == "change_pending":
                    note("another change is accepted and not yet in force: submit it again in two blocks")
                raise
            say_state(office, receipt.id[:16])
        note("the set of validators changes: verifiers follow it with taxledger policy update")


def register(app: typer.Typer) -> None:
    """Add the commands ``fork …``."""
    group = typer.Typer(no_args_is_help=True, help="Evidence that a member contradicted itself.")
    group.command("list")(list_forks)
    for command in (show, submit, verify):
        group.command()(command)
    app.add_typer(group, name="fork")
