"""The lender's desk: a loan's engine with everything it works with, from one folder of settings.

What the command line and the service do is here: an application with its consent, decision, acceptance, draws,
repayments, reports, the watch. Each method may be called again after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxledger.api.client import Client, EventId
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.policies import Policies, decode_policies
from taxledger.ledger.policy import Policy
from taxledger.lending.archive import gather_archive, payment_files
from taxledger.lending.decision import Decision, decode_decision
from taxledger.lending.evidence import (
    VerifiedEvidence,
    add_pledges,
    policy_of_evidence,
    secured,
    verify_evidence_set,
)
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application, Clock, Ports
from taxledger.lending.loans.store import LoanStore, LoanSummary, open_store
from taxledger.lending.nodeports import NodeConsents, NodeEvidence, NodePledges, SystemClock, make_decider
from taxledger.lending.payments.outbox import PaymentOutbox
from taxledger.lending.payments.port import Account
from taxledger.lending.products.catalogue import load_products, shipped_files
from taxledger.lending.products.keeper import ProductKeeper
from taxledger.lending.products.scorecard import card_id
from taxledger.lending.settings import LendingSettings, read_contract_key
from taxledger.lending.watch import Courier, Watcher, WatchStore, watched_loan
from taxledger.lending.watch.alerts import encode_alert
from taxledger.lending.watch.ports import ClientRecheck, ClientState

if TYPE_CHECKING:  # the package takes longer to import than everything else here: fonts and plots
    from taxledger.lending.report.texts import Language

__all__ = ["LendingDesk", "LoanFile", "loan_id", "open_desk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanFile:
    """A loan with what it was decided on.

    Attributes:
        loan: as its events make it.
        decision: the last one; None before there is any.
        verified: the evidence as it verified when it was decided; None where it did not, or none came.
    """

    loan: Loan
    decision: Decision | None
    verified: VerifiedEvidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trust:
    """``nodeports.Trust``."""

    policies: Policies
    recipient: int
    issuers: Mapping[int, int]
    age_ms_max: int
    wait_s_max: float

    @property
    def policy(self) -> Policy:
        """For whatever is fresh."""
        return self.policies.present


def loan_id(key: str) -> str:
    """The id of an application from what its sender calls it: the same key, the same application."""
    return f"L{hashlib.sha256(key.encode()).hexdigest()[:20]}"


class LendingDesk:
    """See the module. May be used by several threads.

    Attributes:
        engine: of the loans; ``store`` them, ``watch`` those that are looked after.
        keeper: products.
        client: of the lender's own node.
        contract_key: the lender's key for contracts.
        policies: those it verifies by: whatever is fresh under the present one alone, what a loan was decided on
            under that of its time.
    """

    def __init__(
        self,
        settings: LendingSettings,
        client: Client,
        *,
        policy_file: bytes,
        former_policies: Sequence[bytes],
        recipient: int,
        contract_key: Signer,
        store: LoanStore,
        watch: WatchStore,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.client = client
        self.policies = decode_policies(policy_file, former_policies)
        self.store = store
        self.watch = watch
        self.contract_key = contract_key
        source = shipped_files() if settings.products is None else load_products(settings.products)
        self.keeper = ProductKeeper(source, settings.folder / "decided")
        self.trust = _Trust(
            policies=self.policies,
            recipient=recipient,
            issuers=settings.issuers,
            age_ms_max=settings.age_ms_max,
            wait_s_max=settings.wait_s_max,
        )
        self.clock: Clock = clock or SystemClock(settings.time_zone)
        self.payer = Account(name=settings.bank_name, number=settings.bank_account, bank=settings.bank_bic)
        ports = Ports(
            consents=NodeConsents(client),
            evidence=NodeEvidence(client, self.trust, self.keeper),
            decide=make_decider(self.trust, self.keeper),
            pledges=NodePledges(
                client, recipient, lambda id: self.engine.evidence(store.load(id)), self._offered
            ),
            payments=PaymentOutbox(settings.outbox, self.payer),
            clock=self.clock,
        )
        self.engine = LoanEngine(
            store,
            ports,
            lender=recipient,
            contract_key=contract_key,
            receiving_account=self._receiving_account,
            one_line=self._has_one_line,
        )

    # --- the loan's life ----------------------------------------------------------------------------

    def apply(self, application: Application, artefact: bytes) -> Loan:
        """Record an application with its consent; nothing is asked of anybody yet (``advance`` does).

        Raises:
            FormatError: an unknown product, security that the product does not take, or a day to come.
            InputError, VerificationError, RefusedError: as ``LoanEngine.apply`` and ``consent``.
        """
        product = self.keeper.product(application.product)
        if application.security and product.security is None:
            raise FormatError(f"product {product.id} takes no security")
        today = self.clock.today()
        if application.as_of is not None and application.as_of > today:
            raise FormatError(f"as_of: expected a day that is not still to come, got {application.as_of}")
        # First, so that what is refused leaves no application behind.
        self.engine.check_consent(application, decode_artefact(artefact))
        self.engine.apply(application)
        return self.engine.consent(application.id, artefact)

    def advance(self, id: str, *, on_step: Callable[[Loan], None] | None = None) -> Loan:
        """All that waits for nobody outside; a loan that is paid out is watched from then on."""
        loan = self.engine.advance(id, on_step=on_step)
        self.look_after(loan)
        return loan

    def look_after(self, loan: Loan) -> None:
        """Watch a loan that is paid out, and one that is closed no longer."""
        if loan.state is State.CLOSED:
            self.watch.release(loan.id)
        if loan.state is not State.PAID_OUT:
            return
        self.watch.enrol(watched_loan(self.store, loan.id, self.policies))

    def resume(self) -> dict[str, str | None]:
        """Go on with every loan that has something to do, as after a crash: what hindered each, or None."""
        outcome = {id: None if e is None else str(e) for id, e in self.engine.advance_all().items()}
        # Whoever died between pay-out and watch, or closing and its end. To look after all verifies all evidence anew.
        watched = {loan.loan for loan, _checked in self.watch.loans()}
        for id in sorted(watched ^ {each.id for each in self.store.list(state=State.PAID_OUT.value)}):
            if (loan := self.store.find(id)) is not None:
                self.look_after(loan)
        return outcome

    def loans(self, *, state: str | None = None, subject: str | None = None) -> tuple[LoanSummary, ...]:
        """The newest first."""
        return self.store.list(state=state, subject=subject)

    # --- after pay-out ----------------------------------------------------------------------------------

    def watcher(self) -> Watcher:
        """Follows the node's events for every loan that is looked after."""
        recheck = ClientRecheck(
            self.client,
            self.policies,
            recipient=self.trust.recipient,
            issuers=self.trust.issuers,
            age_ms_max=self.trust.age_ms_max,
            wait_s_max=self.trust.wait_s_max,
        )
        return Watcher(
            self.watch,
            ClientState(self.client),
            recheck,
            self.keeper.product,
            urls=[each.url for each in self.settings.webhooks],
            now_ms=self.clock.now_ms,
        )

    def watched_from(self) -> EventId | None:
        """Where to begin where nothing was watched yet: behind the oldest evidence of a loan that is looked after."""
        heights = [loan.height for loan, _checked in self.watch.loans()]
        return EventId.after_block(min(heights)) if heights else None

    def courier(self) -> Courier:
        """Delivers alerts to the settings' webhooks; the caller closes it. Raises FormatError: a wrong address."""
        receivers = {each.url: each.secret for each in self.settings.webhooks}
        return Courier(self.watch, receivers, now_ms=self.clock.now_ms)

    # --- what a loan stands on --------------------------------------------------------------------------

    def file(self, loan: Loan) -> LoanFile:
        """A loan with its decision, and its evidence verified as of then."""
        if loan.decision is None:
            return LoanFile(loan=loan, decision=None, verified=None)
        decision = self.engine.decision(loan)
        return LoanFile(loan=loan, decision=decision, verified=self._verified(loan, decision))

    def facts(self, loan: Loan) -> Facts:
        """The verified facts behind a loan. Raises RefusedError ``evidence_missing`` where there are none."""
        file = self.file(loan)
        if file.verified is None:
            raise RefusedError("evidence_missing", f"{loan.id} has no evidence that verified")
        return file.verified.facts

    def report(self, id: str, *, language: Language, pdf: bool = False) -> bytes:
        """The officer's report on an application: a page, or the same as PDF.

        Raises:
            RefusedError: ``loan_unknown``; ``loan_undecided``: there is no decision yet.
            FormatError: no font with Chinese characters was found.
        """
        # Imported here: only a report needs plots and fonts.
        from taxledger.lending.report.html import render_html
        from taxledger.lending.report.pdf import render_pdf
        from taxledger.lending.report.portrait import make_portrait, notes_of

        file = self.file(self.engine.load(id))
        if file.decision is None:
            raise RefusedError("loan_undecided", f"{id} is {file.loan.state}: nothing was decided yet")
        facts = Facts(subject=file.loan.application.subject) if file.verified is None else file.verified.facts
        portrait = make_portrait(
            facts,
            () if file.verified is None else notes_of(file.verified),
            file.decision,
            language=language,
            product_title=self._title(file.decision, language),
        )
        return render_pdf(portrait, file.decision.decided_ms) if pdf else render_html(portrait)

    def _title(self, decision: Decision, language: Language) -> str | None:
        try:
            product = self.keeper.product(decision.product)
        except FormatError:  # it is lent no more: the report names it by its id
            return None
        return product.title_zh if language == "zh" else product.title

    def archive(self, id: str) -> bytes:
        """The loan's archive (docs/lending.md), verified.

        Raises:
            RefusedError: ``loan_unknown``.
            InputError, UnavailableError, VerificationError: as ``gather_archive``.
        """
        decided = [
            decode_decision(self.store.file(id, each.value[1]))
            for each in self.store.events(id)
            if each.kind == "decided"
        ]
        cards = [each.scorecard_digest for each in decided if each.scorecard_digest is not None]
        return gather_archive(
            self.contract_key,
            self.store,
            id,
            policies=self.policies,
            products={each.product_digest: self._kept(each.product_digest) for each in decided},
            scorecards={card_id(self._kept(each)): self._kept(each) for each in cards},
            payment_file=payment_files(self.settings.outbox),
            alerts=[encode_alert(each) for each in self.watch.alerts(id)],
            sealed_ms=self.clock.now_ms(),
        )

    def _kept(self, digest: str) -> bytes:
        return self.keeper.kept(bytes.fromhex(digest))

    def _verified(self, loan: Loan, decision: Decision) -> VerifiedEvidence | None:
        evidence = self.engine.evidence(loan)
        if not evidence.files or evidence.reasons or decision.outcome == "incomplete":
            return None
        ages = {"now_ms": decision.decided_ms, "age_ms_max": decision.age_ms_max}
        policy = policy_of_evidence(evidence.files, self.policies)
        verified = verify_evidence_set(
            evidence.files,
            policy,
            recipient=self.trust.recipient,
            artefact=self.engine.artefact(loan),
            **ages,
        )
        if evidence.pledges is None or not decision.security:
            return verified
        security = [bytes.fromhex(each) for each in decision.security]
        return add_pledges(verified, evidence.pledges, policy, security, **ages)

    def _has_one_line(self, loan: Loan) -> bool:
        """All products but those that lend against what is pledged. One that is lent no more: fail closed."""
        try:
            security = self.keeper.product(loan.application.product).security
        except FormatError:
            return True
        return security is None or not security.required

    def _offered(self, id: str) -> tuple[Fact, ...]:
        """The records offered as security for a loan, as they verified for its decision."""
        file = self.file(self.store.load(id))
        if file.decision is None or file.verified is None:
            return ()
        return secured(file.verified.facts, [bytes.fromhex(each) for each in file.decision.security])

    def _receiving_account(self, loan: Loan, decision: Decision) -> Account | None:
        """The account that the buyer or owner pays to, where security names one: the loan is paid there alone."""
        verified = self._verified(loan, decision)
        if verified is None:
            return None
        records = secured(verified.facts, [bytes.fromhex(each) for each in decision.security])
        accounts = {
            str(each.fields["account"]): str(each.fields.get("supplier", loan.application.subject))
            for each in records
            if each.fields.get("account")
        }
        if not accounts:
            return None
        if len(accounts) > 1:
            raise RefusedError(
                "accounts_differ", "records offered as security are paid to different accounts"
            )
        number, name = next(iter(accounts.items()))
        return Account(name=name, number=number)


@contextmanager
def open_desk(
    settings: LendingSettings,
    client: Client,
    *,
    policy_file: bytes,
    former_policies: Sequence[bytes] = (),
    recipient: int,
    clock: Clock | None = None,
) -> Iterator[LendingDesk]:
    """The desk of a lender's folder.

    Args:
        settings: of the folder.
        client: of the lender's own node; the caller closes it.
        policy_file: whom the lender trusts, its own file; former_policies: whom it trusted before, its own files too.
        recipient: its member number.
        clock: of the bank; None: the machine's.

    Raises:
        InputError: a file of the folder is missing or wrong.
        UnavailableError: the database can't be opened.
    """
    with ExitStack() as held:
        store = open_store(settings.database_url)
        held.callback(store.close)
        watch = WatchStore(settings.folder / "watch.sqlite")
        held.callback(watch.close)
        yield LendingDesk(
            settings,
            client,
            policy_file=policy_file,
            former_policies=former_policies,
            recipient=recipient,
            contract_key=read_contract_key(settings),
            store=store,
            watch=watch,
            clock=clock,
        )
