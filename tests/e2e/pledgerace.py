"""A race of banks for the same invoices, through nodes that are killed meanwhile: what each was told, and what is so.

The issuer is an observer, so that the validators are banks; some banks are observers, too. Everything goes through the
banks' own nodes, by the client that a bank embeds.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from custodykit import row, write_cumcm
from sharing import INVOICES, attest

from network import PATIENCE_S, RealNetwork, until
from taxledger.api.client import Client
from taxledger.api.client.wire import RetryLimits
from taxledger.ledger.consent import Detail, sign_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.permit import Permit, decode_permit
from taxledger.ledger.pledgeproof import PledgeKey, VerifiedPledges
from taxledger.ledger.query import Query
from taxledger.nodes.enterprise.terms import Wish, make_terms

YEAR = ("2025-01", "2025-12")
WHOLE = 1_000_000
LOSSES = {"pledge_exceeds", "pledges_full", "pledge_contested"}
"""Why a place may be refused in a race; anything else is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a bank was told of one place: the pledge's id, or the code of the refusal."""

    bank: str
    key: PledgeKey
    record: bytes
    ppm: int
    pledge: bytes | None
    code: str | None


@dataclass(slots=True)
class Outcome:
    """A finished race."""

    told: list[Told]
    proved: VerifiedPledges
    kills: list[str]
    seconds: float
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def placed(self) -> dict[bytes, Told]:
        return {each.pledge: each for each in self.told if each.pledge is not None}

    def figures(self) -> dict[str, object]:
        """For the acceptance list."""
        states = self.proved.states.values()
        return {
            "invoices": len(states),
            "tries": len(self.told),
            "placed": len(self.placed),
            "pledges_in_state": sum(len(each.pledges) for each in states),
            "most_pledged_ppm": max(each.pledged_ppm for each in states),
            "full": sum(each.pledged_ppm == WHOLE for each in states),
            "refused": dict(sorted(self.codes.items())),
            "kills": len(self.kills),
            "seconds": round(self.seconds, 1),
        }


class Race:
    """The stage of a race: a network, its banks, and what each was shown.

    Args:
        folder: empty.
        validators, observers: numbers of the banks of each sort.
        invoices: how many there are; ``twins`` of them stand under another enterprise, too.
        seed: of everything that is drawn.
    """

    def __init__(
        self, folder: Path, *, validators: int, observers: int, invoices: int, twins: int, seed: int
    ) -> None:
        names = [f"bank{number}" for number in range(1, validators + observers + 1)]
        self.banks = names
        self.validators = names[:validators]
        self.random = random.Random(seed)
        self.network = RealNetwork(
            folder / "net",
            members=tuple(self.validators),
            observers=("tax", *names[validators:]),
            issues={"tax": list(range(1, 13))},
        )
        self._folder = folder
        self._invoices, self._twins = invoices, twins
        self.permits: dict[str, list[bytes]] = {}

    @property
    def issuer(self) -> int:
        return self.network.homes["tax"].config.number

    @property
    def issuer_key(self) -> Signer:
        return Signer(self.network.homes["tax"].key("transaction"))

    def client(self, bank: str) -> Client:
        """Goes on while nodes are killed: the same request again."""
        local = self.network.homes[bank].client()
        limits = RetryLimits(total_s=2 * PATIENCE_S, first_s=0.05, pause_s_max=0.5)
        return Client(local.url, local.key, self.network.policy, retries=limits)

    # --- before -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Invoices attested, consents given, and each bank with its permits: the last banks for the twins."""
        rows = {"E1": range(self._invoices), "E2": range(self._twins)}
        for name, numbers in rows.items():
            # Number, date and amounts are a document's; the same under two enterprises has one fingerprint.
            lines = [
                row(10_000 + n, date=f"2025/{1 + n % 12}/3", net=f"{100 + n}.00", enterprise=name)
                for n in numbers
            ]
            if lines:
                attest(self.network, write_cumcm(self._folder / f"{name}.csv", lines))
        with ThreadPoolExecutor(len(self.banks)) as pool:
            self.permits = dict(zip(self.banks, pool.map(self._shown, self.banks), strict=True))

    def _shown(self, bank: str) -> list[bytes]:
        permits = self._show(bank, "cumcm:E1")
        if self._twins and bank in self.banks[-2:]:
            permits += self._show(bank, "cumcm:E2")
        return permits

    def _show(self, bank: str, subject: str) -> list[bytes]:
        chance = random.Random(subject)
        key, secret = Signer(chance.randbytes(32)), chance.randbytes(32)
        recipient = self.network.homes[bank].config.number
        wish = Wish(
            recipient=recipient,
            custodians={self.issuer: None},
            details=[Detail(kind=INVOICES, from_period=YEAR[0], to_period=YEAR[1], fields=None)],
            max_uses=9,
            may_pledge=True,
        )
        terms, _notice = make_terms(
            wish,
            subject=subject,
            subject_secret=secret,
            chain_id=self.network.chain_id,
            nonce=os.urandom(32),
            now_ms=time.time_ns() // 1_000_000,
            names={},
        )
        artefact = sign_artefact(terms, key)
        with self.client("tax") as office:
            office.register_subject(subject, key.public_key, authentication="at the counter")
        query = Query(
            subject=subject, issuer=self.issuer, kinds=(INVOICES,), from_period=YEAR[0], to_period=YEAR[1]
        )
        with self.client(bank) as client:
            made = client.forward_consent(artefact.raw)
            assert not made.failures, made
            said = client.verified_disclosure(query, artefact.raw, recipient)
            return client.request_permits(
                said.consent,
                said.sequence,
                [each.key for each in said.answer.records],
                not_after=time.time_ns() // 1_000_000 + 3_600_000,
            )

    # --- the race ---------------------------------------------------------------------------------

    def run(self, victims: Sequence[str]) -> Outcome:
        """All banks place on every record they have a permit for, in an order of their own, while the victims die
        one after the other, evenly over the race.
        """
        tries = [
            (bank, permit, self.random.choice((WHOLE, 600_000, 400_000, 250_000, 10_000)))
            for bank in self.banks
            for permit in self.random.sample(self.permits[bank], len(self.permits[bank]))
        ]
        by_bank = {bank: [each for each in tries if each[0] == bank] for bank in self.banks}
        done = itertools.count(1)
        counted = [0]
        told: list[Told] = []
        lock = threading.Lock()

        def place(bank: str, client: Client, permit: bytes, ppm: int) -> None:
            outcome = _place(client, bank, permit, ppm)
            with lock:
                told.append(outcome)
                counted[0] = next(done)

        begin = time.monotonic()
        kills: list[str] = []
        with ThreadPoolExecutor(4 * len(self.banks)) as pool:
            clients = {bank: self.client(bank) for bank in self.banks}
            # Round by round over the banks, so that they meet on the same invoices.
            rounds = itertools.zip_longest(*by_bank.values())
            started = [
                pool.submit(place, each[0], clients[each[0]], each[1], each[2])
                for one in rounds
                for each in one
                if each is not None
            ]
            for number, victim in enumerate(victims, start=1):
                goal = number * len(started) // (len(victims) + 1)
                until(
                    lambda goal=goal: counted[0] >= goal or _failed(started),
                    f"{goal} places are done",
                    timeout_s=240,
                )
                self.network.kill(victim)
                kills.append(victim)
            try:
                for each in started:
                    each.result()
            except Exception as error:
                pool.shutdown(wait=False, cancel_futures=True)  # one is enough to say what the nodes say now
                said = {name: self.network.status(name) for name in self.network.names}
                raise AssertionError(f"after {kills}: {error}: {said}") from error
            for client in clients.values():
                client.close()
        seconds = time.monotonic() - begin
        self.network.agree()
        keys = {
            (one.issuer, one.fingerprint)
            for each in self.permits.values()
            for one in map(decode_permit, each)
        }
        with self.client(self.random.choice(self.banks)) as client:
            proved = client.verified_pledges(keys)
        codes = Counter(each.code for each in told if each.code is not None)
        return Outcome(told=told, proved=proved, kills=kills, seconds=seconds, codes=codes)


def _failed(started: Sequence[object]) -> bool:
    return any(each.done() and each.exception() for each in started)  # type: ignore[attr-defined]


def name_of(permit: bytes, ppm: int) -> str:
    """Of a request: the same again is the same pledge."""
    return f"race-{permit[-16:].hex()}-{ppm}"


def _place(client: Client, bank: str, raw: bytes, ppm: int) -> Told:
    permit: Permit = decode_permit(raw)
    pledge, code = None, None
    try:
        pledge = client.place_pledge(raw, ppm, request_key=name_of(raw, ppm)).pledge
    except RefusedError as error:
        code = error.code
    return Told(
        bank=bank,
        key=(permit.issuer, permit.fingerprint),
        record=permit.record_key,
        ppm=ppm,
        pledge=pledge,
        code=code,
    )


@contextmanager
def race(folder: Path, **options: int) -> Iterator[Race]:
    """A stage whose nodes run and whose banks have their permits; ended whatever happens."""
    made = Race(folder, **options)
    try:
        made.network.start()
        made.prepare()
        yield made
    finally:
        made.network.close()
