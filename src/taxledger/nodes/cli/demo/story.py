"""The order of the demo's steps, and what it says at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from taxledger.nodes.cli.demo import aftercare, cast, fraud, lender, loans, trouble
from taxledger.nodes.cli.demo.papers import papers
from taxledger.nodes.cli.demo.receiver import receiving
from taxledger.nodes.cli.demo.stage import ISSUES, OBSERVERS, VALIDATORS, Stage, prepare, running
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.cli.output import money, print_table, say

__all__ = ["run_demo"]

_STEPS = 15
_SILENT_S = 6
"""How long bank3 waits for a custodian that is silent."""


def run_demo(folder: Path, *, seed: int, enterprises: int, engine: str) -> None:
    """Everything ``taxledger demo`` does; the network is stopped at the end, whatever happens.

    Raises:
        InputError: the folder holds something else.
        VerificationError: ``not_as_told``; as the parts besides. ``demo.json`` says what was told until then.
    """
    stage = prepare(folder)
    tale = Tale(_STEPS, seed=seed, enterprises=enterprises)
    error: BaseException | None = None
    try:
        _run(stage, tale, seed, enterprises, engine)
    except BaseException as caught:
        error = caught
        raise
    finally:
        tale.write(folder / "demo.json", error)
    _ending(stage, tale)


def _run(stage: Stage, tale: Tale, seed: int, enterprises: int, engine: str) -> None:
    with ExitStack() as held:
        receiver = held.enter_context(receiving())
        with tale.step(
            "A network of eight members, each its own process with its own keys", "八方联盟网络"
        ) as facts:
            make_network(
                stage.network,
                members=list(VALIDATORS),
                observers=list(OBSERVERS),
                issues=ISSUES,
                engine=engine,
                network="demo",
            )
            held.enter_context(running(stage))
            facts["members"] = _show_status(stage)
        players = cast.make_cast(seed, enterprises)
        cast.attest_cast(stage, tale, players)
        cast.make_wallets(stage, tale, players)
        lender.found_lender(stage, "bank1", webhook=(receiver.url, receiver.secret))
        lender.found_lender(stage, "bank2")
        lender.found_lender(stage, "bank3", wait_s=_SILENT_S)
        bank1, bank2, bank3 = (
            held.enter_context(lender.opened_lender(stage, name)) for name in VALIDATORS[1:]
        )
        paid = [
            loans.tax_loan(stage, tale, players, bank1),
            loans.invoice_loan(stage, tale, players, bank1),
            loans.procurement_loan(stage, tale, players, bank1),
        ]
        aftercare.look(bank1)  # the loans are watched from here on
        loans.silent_custodian(stage, tale, players, bank3)
        fraud.twin_fraud(stage, tale, players, bank1, bank2, paid[1])
        fraud.tampered_disclosure(stage, tale, players, bank1, paid[1])
        aftercare.red_letter(stage, tale, players, bank1, paid[1], receiver)
        aftercare.repayment(stage, tale, paid[2])
        trouble.revocation(stage, tale, players, bank1, paid[0])
        papers(stage, tale, bank1, paid)
        trouble.kill_and_restart(stage, tale)
    trouble.audit(stage, tale)


def _show_status(stage: Stage) -> list[dict[str, object]]:
    from taxledger.ledger.kinds import kind_name
    from taxledger.nodes.local.control import network_status

    found: list[dict[str, object]] = []
    for each in network_status(stage.network):
        issues = [kind_name(kind) for kind in ISSUES.get(each.name, ())]
        tell(f"{each.name:12}{each.role:11}pid {each.pid}  height {each.height}  writes {each.writes}")
        found.append({"name": each.name, "role": each.role, "issues": issues})
    return found


def _ending(stage: Stage, tale: Tale) -> None:
    """Times, files, and how to verify them."""
    say("\nfrom the signed consent to the synced payment file 授权至放款:")
    print_table(
        ("  loan", "product", "limit 额度", "paid 放款", "s"),
        [
            (
                f"  {each['loan']}",
                product,
                money(each["limit"]),
                money(each["amount"]),
                f"{each['consent_to_payment_s']:.2f}",
            )
            for product, each in tale.data["loans"].items()
        ],
        right=(2, 3, 4),
    )
    say(f"\ndone in {tale.seconds:.0f} s. What it left in {stage.shown(stage.folder)}:")
    print_table(
        ("  file", "what it is"),
        [
            ("  demo.json", "every step with its time, every loan, for programs"),
            ("  invoice-zh.html, -en.html, -zh.pdf", "the officer's report 信贷报告"),
            ("  tax|invoice|procurement.archive", "one sealed file a loan 贷款档案"),
            (f"  {tale.data['disclosure']}", "evidence as the custodian disclosed it 披露文件"),
            ("  tampered.disclosure, tampered.archive", "what was refused 篡改件"),
            ("  network/bank1/lending/payments/*.xml", "ISO 20022 payment messages 付款文件"),
        ],
    )
    say("verify it yourself (the disclosure within ten minutes, or with --max-age):")
    for command in tale.data["verify"]:
        tell(command)
