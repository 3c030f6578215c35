"""``taxledger evidence``: get an answer with its proof, verify it offline, show what a file says.

``verify`` and ``show`` need no node and no network, and run without the packages of a node.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.nodes.cli import disclosed
from taxledger.nodes.cli.consentkeys import members_of
from taxledger.nodes.cli.consentshow import say_use
from taxledger.nodes.cli.evidenceshow import print_answer, print_erased, print_totals
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    connect,
    open_home,
    parse_age,
    parse_instant,
    print_json,
    read_file,
    say,
    write_file,
)
from taxledger.nodes.cli.wording import refused_zh

if TYPE_CHECKING:
    from taxledger.ledger.answer import Answer
    from taxledger.ledger.disclosure import Disclosed
    from taxledger.ledger.query import Query

__all__ = ["fetch", "make_query", "print_answer", "register", "verify_file"]

_RECORDS_SHOWN = 20

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="An evidence file.", show_default=False)]
SubjectOption = Annotated[
    str, typer.Option("--subject", metavar="S", help="Credit code, or scheme:identifier.", show_default=False)
]
KindOption = Annotated[
    list[str],
    typer.Option("--kind", metavar="K", help="Kind of record; may be repeated.", show_default=False),
]
FromOption = Annotated[
    str, typer.Option("--from", metavar="YYYY-MM", help="First month.", show_default=False)
]
ToOption = Annotated[str, typer.Option("--to", metavar="YYYY-MM", help="Last month.", show_default=False)]
IssuerOption = Annotated[
    int, typer.Option("--issuer", metavar="N", help="Number of the member that attested.")
]
_MaybeSubject = Annotated[
    str | None,
    typer.Option("--subject", metavar="S", help="Credit code, or scheme:identifier.", show_default=False),
]
_MaybeKinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="K", help="Kind of record; may be repeated.", show_default=False),
]
_MaybeFrom = Annotated[
    str | None, typer.Option("--from", metavar="YYYY-MM", help="First month.", show_default=False)
]
_MaybeTo = Annotated[
    str | None, typer.Option("--to", metavar="YYYY-MM", help="Last month.", show_default=False)
]
PolicyOption = Annotated[
    Path, typer.Option("--policy", metavar="FILE", help="Your trust root.", show_default=False)
]


def make_query(subject: str, kinds: Sequence[str], from_period: str, to_period: str, issuer: int) -> Query:
    """The question of these options. Raises FormatError."""
    from taxledger.ledger.query import Query
    from taxledger.ledger.records import parse_subject
    from taxledger.ledger.schemas import parse_kind

    return Query(
        subject=parse_subject(subject),
        issuer=issuer,
        kinds=tuple(sorted({parse_kind(kind) for kind in kinds})),
        from_period=from_period,
        to_period=to_period,
    )


def verify_file(
    path: Path, policy: bytes, query: Query, *, now_ms: int, age_ms_max: int, engine: str | None = None
) -> Answer:
    """The answer of a file, offline. Raises VerificationError, or InputError for what can not be read."""
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.verify import verify_evidence

    trusted = decode_policy(policy)
    data = read_file(path, bytes_max=limits.evidence_bytes_max + 1)
    return verify_evidence(data, trusted, query, now_ms=now_ms, age_ms_max=age_ms_max, engine=engine)


def fetch(home_path: Path, query: Query) -> tuple[bytes, Answer]:
    """Evidence from the custodian, through the home's own node, verified under the home's policy.

    Raises:
        VerificationError: what came back does not verify.
        RefusedError, UnavailableError: the node or the custodian refused, or can't be reached.
    """
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.verify import verify_evidence

    home = open_home(home_path)
    with connect(home) as client:
        data = client.dossier(query)
    answer = verify_evidence(
        data,
        decode_policy(home.policy()),
        query,
        now_ms=time.time_ns() // 1_000_000,
        age_ms_max=limits.answer_age_ms_default,
    )
    return data, answer


def get(
    home: HomeOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.", show_default=False)
    ],
    consent: Annotated[
        Path | None,
        typer.Option(
            "--consent",
            metavar="FILE",
            help="The artefact under which you ask. Without it, at the issuer's own home only.",
            show_default=False,
        ),
    ] = None,
    subject: _MaybeSubject = None,
    kind: _MaybeKinds = None,
    from_period: _MaybeFrom = None,
    to_period: _MaybeTo = None,
    issuer: Annotated[
        int | None,
        typer.Option(
            "--issuer",
            metavar="N",
            help="Who attested; without it the consent's first custodian, or the home's own member.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for an answer with its proof, through your own node; kept only when it verifies.

    With a consent, what the options leave out is what the consent covers. A request that was cut off goes on when the
    same command is run again, and is counted once.

    Example: taxledger evidence get --home net/bank1 --consent acme-bank1.consent -o acme.disclosure

    Example: taxledger evidence get --home net/tax --subject cumcm:E14 --kind vat_invoice --from 2019-01
    --to 2019-12 -o e14.evidence
    """
    if consent is not None:
        artefact = disclosed.read_artefact(consent)
        query = disclosed.question_of(
            artefact,
            subject=subject,
            kinds=kind,
            from_period=from_period,
            to_period=to_period,
            issuer=issuer,
            issued=None if kind or len(artefact.terms.custodians) == 1 else _issued(home),
        )
        data, said = disclosed.ask_under_consent(home, query, artefact, output)
        _say_answer(output, data, said.answer, said, as_json=as_json)
        return
    if subject is None or not kind or from_period is None or to_period is None:
        raise InputError(
            "expected --consent FILE, or --subject, --kind, --from and --to at the issuer's own home"
        )
    check_writable(output)
    opened = open_home(home)
    own = opened.config.number if opened.vault_path.exists() else 1  # who keeps records asks for its own
    data, answer = fetch(home, make_query(subject, kind, from_period, to_period, issuer or own))
    write_file(output, data, private=True)
    _say_answer(output, data, answer, None, as_json=as_json)


def _issued(home: Path) -> dict[int, tuple[int, ...]]:
    """The kinds that each member issues, from the verified state."""
    with connect(open_home(home)) as client:
        return {number: member.kinds for number, member in members_of(client).items()}


def _say_answer(output: Path, data: bytes, answer: Answer, said: Disclosed | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(output), **_verdict(answer, said)})
        return
    print_answer(answer)
    if said is not None:
        say_use(said)
    say(f"{output}: {len(answer.records):,} records, {len(data):,} bytes, {answer.proof_bytes:,} of proof")


def _verdict(answer: Answer, said: Disclosed | None) -> dict[str, Any]:
    from taxledger.ledger.answer import totals
    from taxledger.ledger.schemas import kind_name

    return {
        "verified": True,
        "code": None,
        "expected": None,
        "got": None,
        "age_ms": answer.age_ms,
        "height": answer.height,
        "size": answer.size,
        "records": len(answer.records),
        "file_bytes": answer.file_bytes,
        "proof_bytes": answer.proof_bytes,
        "record_bytes": answer.record_bytes,
        "through": {kind_name(kind): date for kind, date in answer.through.items()},
        "complete": {kind_name(kind): answer.complete(kind) for kind in answer.through},
        "issuer": None if answer.issuer is None else answer.issuer.name,
        "totals": totals(answer),
        **({} if said is None else {"disclosure": disclosed.disclosed_as_json(said)}),
    }


def verify(
    file: FileArgument,
    policy: PolicyOption,
    subject: SubjectOption,
    kind: KindOption,
    from_period: FromOption,
    to_period: ToOption,
    issuer: IssuerOption = 1,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="AGE", help="How old it may be, like 90s, 10m, 24h.")
    ] = "10m",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="INSTANT", help="Judge its age at this instant.", show_default=False),
    ] = None,
    require_engine: Annotated[
        str | None,
        typer.Option("--require-engine", metavar="E", help="Refuse other engines.", show_default=False),
    ] = None,
    recipient: Annotated[
        str | None,
        typer.Option(
            "--recipient",
            metavar="MEMBER",
            help="Of a disclosure: your own number, or with --home your name.",
            show_default=False,
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="Your home, instead of a number.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check an evidence file or a disclosure offline: no network, no node. Exit status 0 verified, 1 refused.

    Example: taxledger evidence verify e14.evidence --policy policy.txt --subject cumcm:E14
    --kind vat_invoice --from 2019-01 --to 2019-12

    Example: taxledger evidence verify acme.disclosure --policy policy.txt --recipient 2
    --subject 91110101MA00000005 --kind vat_invoice --from 2024-01 --to 2024-12
    """
    query = make_query(subject, kind, from_period, to_period, issuer)
    trusted = read_file(policy, bytes_max=limits.policy_bytes_max)
    now_ms = parse_instant(at) if at else time.time_ns() // 1_000_000
    age_ms_max = parse_age(max_age)
    data = read_file(file, bytes_max=disclosed.FILE_BYTES_MAX)
    said = None
    try:
        if disclosed.is_disclosure(data):
            said = disclosed.verify_bytes(
                data,
                trusted,
                query,
                recipient=disclosed.parse_recipient(recipient, home),
                now_ms=now_ms,
                age_ms_max=age_ms_max,
                engine=require_engine,
            )
            answer = said.answer
        else:
            answer = verify_file(
                file, trusted, query, now_ms=now_ms, age_ms_max=age_ms_max, engine=require_engine
            )
    except VerificationError as refusal:
        _print_refusal(refusal, as_json=as_json)
        raise typer.Exit(1) from refusal
    if as_json:
        print_json(_verdict(answer, said))
        return
    print_answer(answer)
    if said is not None:
        say_use(said)


def _print_refusal(refusal: VerificationError, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "verified": False,
                "code": refusal.code,
                "message": str(refusal),
                "expected": refusal.expected,
                "got": refusal.got,
                "age_ms": None,
            }
        )
        return
    say(f"refused: {refusal}\n{refused_zh(refusal.code)}")
    if refusal.expected is not None or refusal.got is not None:
        expected, got = (
            each.hex() if isinstance(each, bytes) else each for each in (refusal.expected, refusal.got)
        )
        say(f"  expected {expected}")
        say(f"  got      {got}")


def show(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show what an evidence file or a disclosure says, without checking it.

    Example: taxledger evidence show e14.evidence --json
    """
    from taxledger.ledger.answer import show_evidence

    data = read_file(file, bytes_max=disclosed.FILE_BYTES_MAX)
    about = None
    if disclosed.is_disclosure(data):
        about, shown = disclosed.show_disclosure(data)
    else:
        shown = show_evidence(data)
    if as_json:
        print_json(shown if about is None else {"disclosure": about, **shown})
        return
    query, checkpoint, records = shown["query"], shown["checkpoint"], shown["records"]
    say("not verified: this is what the file says")
    if about is not None:
        disclosed.say_about(about)
    say(f"subject     {query['subject']}, attested by member {query['issuer']}")
    say(f"asked       {', '.join(query['kinds'])}, {query['from']} to {query['to']}")
    say(f"checkpoint  {checkpoint['origin']}, height {checkpoint['height']}, log size {checkpoint['size']}")
    for name, date in shown["through"].items():
        say(f"through     {name} {date or '-'}")
    print_totals(shown["totals"])
    print_erased(shown["erased"])
    for record in records[:_RECORDS_SHOWN]:
        fields = " ".join(f"{name}={value}" for name, value in (record["fields"] or {}).items())
        say(f"{record['key']}  {record['period']}  {record['status']}  {fields}")
    if len(records) > _RECORDS_SHOWN:
        say(f"… and {len(records) - _RECORDS_SHOWN:,} more records (--json shows all)")


def register(app: typer.Typer) -> None:
    """Add the commands ``evidence …``."""
    group = typer.Typer(
        no_args_is_help=True, help="Get answers with their proof, and verify them offline. 查询与核验"
    )
    for command in (get, verify, show):
        group.command()(command)
    app.add_typer(group, name="evidence")
