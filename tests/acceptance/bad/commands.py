"""Bad command lines, evidence files, policies and homes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .kit import GOOD, QUESTION, Command, Kit

__all__ = ["COMMANDS", "attest_arguments"]


def _verify(
    kit: Kit, file: object = None, policy: object = None, question: Sequence[str] = QUESTION, *more: object
) -> list[object]:
    return ["evidence", "verify", file or kit.evidence, "--policy", policy or kit.policy, *question, *more]


def _asked(**changes: str) -> list[str]:
    """The question with options changed."""
    question = list(QUESTION)
    for name, value in changes.items():
        question[question.index(f"--{name.rstrip('_')}") + 1] = value
    return question


def attest_arguments(kit: Kit, file: Path, *more: object) -> list[object]:
    return [
        "attest",
        "--home",
        kit.tax,
        "--source",
        "cumcm",
        "--dry-run",
        "--report",
        kit.folder / "report.csv",
        *more,
        file,
    ]


def _usage(what: str, said: str, *arguments: object, status: int = 2) -> Command:
    return Command(area="CLI", what=what, arguments=lambda _kit: arguments, status=status, said=said)


def _cli(what: str, said: str, arguments: Callable[[Kit], Sequence[object]], status: int = 2) -> Command:
    return Command(area="CLI", what=what, arguments=arguments, status=status, said=said)


def _of_evidence(what: str, said: str, content: Callable[[bytes], bytes]) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return _verify(kit, kit.file("bad.evidence", content(kit.evidence.read_bytes())))

    return Command(area="evidence", what=what, arguments=arguments, status=1, said=said)


def _shown(what: str, said: str, content: bytes, status: int = 1) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return ["evidence", "show", kit.file("bad.evidence", content)]

    return Command(area="evidence", what=what, arguments=arguments, status=status, said=said)


def _of_policy(what: str, said: str, change: Callable[[bytes], bytes], status: int = 2) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return _verify(kit, None, kit.file("bad-policy.txt", change(kit.policy.read_bytes())))

    return Command(area="policy", what=what, arguments=arguments, status=status, said=said)


def _of_home(what: str, said: str, name: str, change: Callable[[bytes], bytes] | None) -> Command:
    def arguments(kit: Kit) -> list[object]:
        home = kit.other_home(name, change)
        return ["evidence", "get", "--home", home, *QUESTION, "-o", kit.folder / "no.evidence"]

    return Command(area="node.toml", what=what, arguments=arguments, status=2, said=said)


def _sparse(kit: Kit) -> Path:
    path = kit.file("huge.evidence", b"")
    with path.open("r+b") as file:
        file.truncate(1 << 34)
    return path


def _key(kit: Kit, end: str = "00" * 33) -> str:
    return "01000105" + end


def _get(kit: Kit, home: Path, output: Path | None = None) -> list[object]:
    return ["evidence", "get", "--home", home, *QUESTION, "-o", output or kit.folder / "no.evidence"]


def _amend(kit: Kit, *options: str) -> list[object]:
    reason = () if "--reason" in options else ("--reason", "x")
    return ["amend", "--home", kit.tax, "--record", _key(kit), *reason, *options]


def _with_port(data: bytes) -> bytes:
    begin = data.index(b"127.0.0.1:")
    end = data.index(b'"', begin)
    return data[:begin] + b"127.0.0.1:99999" + data[end:]


COMMANDS: tuple[Command, ...] = (
    _usage("no such command", "No such command", "evidense"),
    _usage("an unknown option", "No such option", "network", "status", "--jason", "net"),
    _usage("no home given", "--home", "attest", "--source", "cumcm", __file__),
    _usage("no policy given", "--policy", "evidence", "verify", __file__, *QUESTION),
    _usage("status of no network", "not a network folder", "network", "status", "/nowhere"),
    _usage("start of no network", "not a network folder", "network", "start", "/nowhere"),
    _usage("stop of no network", "not a network folder", "network", "stop", "/nowhere"),
    _usage("audit of nothing", "cannot read", "audit", "/nowhere"),
    _usage("a demo of one", "--enterprises", "demo", "--enterprises", "1"),
    _usage("a demo with a seed in words", "--seed", "demo", "--seed", "many"),
    _cli("a network over another", "not an empty folder", lambda kit: ["network", "create", kit.net]),
    _cli(
        "33 members",
        "1 to 32 members",
        lambda kit: [
            "network",
            "create",
            kit.folder / "x",
            "--members",
            ",".join(f"m{n}" for n in range(33)),
        ],
    ),
    _cli(
        "a member's name with a slash",
        "a member name",
        lambda kit: ["network", "create", kit.folder / "x", "--members", "tax,../bank"],
    ),
    _cli(
        "an engine that is not there",
        "engine",
        lambda kit: ["network", "create", kit.folder / "x", "--engine", "raft"],
    ),
    _cli(
        "a member that is not there",
        "tax, bank1",
        lambda kit: ["network", "stop", kit.net, "--member", "bank7"],
    ),
    _cli("a network for a home", "one of its homes", lambda kit: _get(kit, kit.net)),
    _cli("no home", "not a member's home", lambda kit: _get(kit, kit.folder)),
    _cli("an unknown kind", "vat_invoice", lambda kit: _verify(kit, None, None, _asked(kind="invoice"))),
    _cli("a month 13", "2024-13", lambda kit: _verify(kit, None, None, _asked(to="2024-13"))),
    _cli("the last month first", "2024-12", lambda kit: _verify(kit, None, None, _asked(from_="2025-01"))),
    _cli("a subject without a scheme", "scheme", lambda kit: _verify(kit, None, None, _asked(subject="E5"))),
    _cli(
        "a credit code with a wrong check character",
        "check character",
        lambda kit: _verify(kit, None, None, _asked(subject="91370102T3E0TWMF6X")),
    ),
    _cli("an age in words", "10m", lambda kit: _verify(kit, None, None, QUESTION, "--max-age", "soon")),
    _cli(
        "an instant without a zone",
        "instant",
        lambda kit: _verify(kit, None, None, QUESTION, "--at", "2026-01-01T09:00:00"),
    ),
    _cli("an issuer 0", "issuer", lambda kit: _verify(kit, None, None, QUESTION, "--issuer", "0")),
    _cli(
        "an issuer in words",
        "--issuer",
        lambda kit: _verify(kit, None, None, QUESTION, "--issuer", "tax"),
    ),
    _cli("no consent", "consent_missing", lambda kit: _get(kit, kit.bank), 1),
    _cli("an issuer who is none", "consent_missing", lambda kit: [*_get(kit, kit.bank), "--issuer", "77"], 1),
    _cli(
        "an answer into a folder that is not there",
        "cannot write",
        lambda kit: _get(kit, kit.tax, kit.folder / "no" / "x"),
        1,
    ),
    _cli("an answer onto a folder", "cannot write", lambda kit: _get(kit, kit.tax, kit.folder), 1),
    _cli(
        "an export into a folder that is not there",
        "cannot write",
        lambda kit: ["export", "--home", kit.bank, "-o", kit.folder / "no" / "x"],
        1,
    ),
    _cli("an archive of text", "", lambda kit: ["audit", kit.file("x.archive", "not an archive\n" * 9)], 1),
    _cli("an empty archive", "", lambda kit: ["audit", kit.file("x.archive", b"")], 1),
    _cli(
        "an archive under a policy of text",
        "",
        lambda kit: ["audit", kit.bank, "--policy", kit.file("p", "x")],
    ),
    _cli("a record key of words", "hex", lambda kit: ["record", "show", "invoice", "--home", kit.bank]),
    _cli(
        "a record that is not there",
        "record_unknown",
        lambda kit: ["record", "show", _key(kit), "--home", kit.bank],
        1,
    ),
    _cli("a change of no record", "", lambda kit: _amend(kit, "--status", "voided"), 1),
    _cli("a field that is none", "FIELD=VALUE", lambda kit: _amend(kit, "--set", "colour=red")),
    _cli("a field without a value", "FIELD=VALUE", lambda kit: _amend(kit, "--set", "net")),
    _cli("a reason of a megabyte", "", lambda kit: _amend(kit, "--reason", "x" * 100_000)),
    _cli(
        "a date that is none",
        "2024-02-30",
        lambda kit: attest_arguments(kit, kit.table(GOOD), "--through", "2024-02-30"),
    ),
    _cli(
        "a folder of no files", "expected files in the folder", lambda kit: attest_arguments(kit, kit.place())
    ),
    _cli(
        "a folder of files of another format",
        "notes/b.csv: line 1: expected the columns",
        lambda kit: attest_arguments(kit, kit.place(("b.csv", "a,b"), ("c.xml", "<c/>"))),
        1,
    ),
    _cli(
        "a bank that attests",
        "is no issuer",
        lambda kit: ["attest", "--home", kit.bank, "--source", "cumcm", kit.table(GOOD)],
    ),
    # --- evidence
    _of_evidence("nothing in it", "refused: not_canonical", lambda _: b""),
    _of_evidence("text", "refused: not_canonical", lambda _: b"see attachment\n"),
    _of_evidence("its first half", "refused: ", lambda data: data[: len(data) // 2]),
    _of_evidence("a byte more", "refused: ", lambda data: data + b"\0"),
    _of_evidence(
        "a byte changed", "refused: ", lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    ),
    _of_evidence("a million arrays in one another", "refused: ", lambda _: b"\x91" * 1_000_000),
    _of_evidence("an array of four billion", "refused: ", lambda _: b"\xdd\xff\xff\xff\xff"),
    _of_evidence("a text of four billion", "refused: ", lambda _: b"\x9b\x01\xdb\xff\xff\xff\xffx"),
    Command(
        area="evidence",
        what="16 GiB",
        arguments=lambda kit: _verify(kit, _sparse(kit)),
        status=2,
        said="at most",
    ),
    Command(
        area="evidence",
        what="a folder",
        arguments=lambda kit: _verify(kit, kit.folder),
        status=2,
        said="read",
    ),
    Command(
        area="evidence",
        what="no file",
        arguments=lambda kit: _verify(kit, "/nowhere"),
        status=2,
        said="/nowhere",
    ),
    Command(
        area="evidence",
        what="of another subject",
        arguments=lambda kit: _verify(kit, None, None, _asked(subject="cumcm:E6")),
        status=1,
        said="refused: query_mismatch",
    ),
    _shown("text, to show", "not_canonical", b"hello"),
    _shown("nothing, to show", "not_canonical", b""),
    _shown("an array of nothing, to show", "malformed", b"\x90"),
    # --- policy
    _of_policy("nothing in it", "line", lambda _: b""),
    _of_policy("binary", "policy line 1", lambda _: b"\xff\xfe\x00"),
    _of_policy("an unknown word", "line", lambda data: data + b"trust everybody\n"),
    _of_policy(
        "a witness twice",
        "",
        lambda data: data + next(x for x in data.splitlines(True) if x.startswith(b"witness")),
    ),
    _of_policy("a key cut short", "line", lambda data: data.replace(b"+", b"", 1)),
    _of_policy("more to sign than there are", "", lambda data: data.replace(b"quorum", b"quorum 9 ", 1)),
    _of_policy("a megabyte", "", lambda data: data + b"# x\n" * 250_000),
    Command(
        area="policy",
        what="of another network",
        arguments=lambda kit: _verify(kit, None, kit.other_policy),
        status=1,
        said="refused: policy_mismatch",
    ),
    # --- a member's home
    _of_home("no TOML", "TOML", "node.toml", lambda _: b"[member"),
    _of_home("not UTF-8", "node.toml", "node.toml", lambda _: b"\xff\xfe[member]"),
    _of_home("nothing in it", "node.toml", "node.toml", lambda _: b""),
    _of_home(
        "a number in words",
        "member.number",
        "node.toml",
        lambda data: data.replace(b"number = 2", b'number = "2"', 1),
    ),
    _of_home("a port 99999", "host and port", "node.toml", lambda data: _with_port(data)),
    _of_home(
        "an engine that is not there",
        "embedded",
        "node.toml",
        lambda data: data.replace(b'"embedded"', b'"raft"'),
    ),
    _of_home("client.json of a list", "JSON object", "client.json", lambda _: b"[]"),
    _of_home("client.json of noise", "client.json", "client.json", lambda _: b"\x00\xff"),
    _of_home("no client.json", "client.json", "client.json", None),
    _of_home("no policy", "policy.txt", "policy.txt", None),
)
