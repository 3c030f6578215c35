"""The watcher on a real network: a red letter after pay-out, other enterprises' uploads, the end of a consent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from custodykit import row, write_cumcm
from receiver import SECRET, Receiver
from sharing import Enterprise, answered, attest, now_ms
from standardwebhooks import Webhook

from network import RealNetwork, real_network
from taxledger.api.client import Client
from taxledger.api.events import Event, EventId
from taxledger.ledger.policies import decode_policies
from taxledger.lending.collecting import collect_evidence
from taxledger.lending.evidence import verify_evidence_set
from taxledger.lending.features.windows import months_before
from taxledger.lending.products.product import decode_product
from taxledger.lending.questions import consent_details, questions
from taxledger.lending.watch import Courier, Watcher, WatchStore, watched_of
from taxledger.lending.watch.ports import ClientRecheck, ClientState

INVOICES = 5
AGE_MS_MAX = 600_000
PRODUCT = """
id = "watched"
version = 1
title = "Watched"
title_zh = "贷后监测"
source = "made for a test"
currency = "CNY"
attested_within_days = 46

[[rules]]
id = "sales"
feature = "net_sales_12m"
at_least = "1.00"
title = "any sales"
title_zh = "有销售"

[limit]
feature = "net_sales_12m"
factor = "10 %"
max = "1,000,000.00"
min = "1.00"
step = "1.00"

[terms]
months_max = 12
rate = "5 %"

[[watch]]
id = "watch_red_letters"
feature = "red_letter_ratio_amount_12m"
at_most = "5 %"
severity = "warning"
title = "red letters exceed 5 % of sales"
title_zh = "红字金额占比超过5%"
""".encode()


class Until:
    """A client's events, until something has come of them."""

    def __init__(self, client: Client, done: Callable[[], bool]) -> None:
        self._client, self._done = client, done

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        for event in self._client.events(after):
            yield event
            if self._done():  # asked when the watcher wants the next event: the block is done with
                return


def sales(path: Path, enterprise: str, today: date, count: int) -> Path:
    """One sale of 1,000 a month, the last one a month ago."""
    days = [months_before(today, n) for n in range(1, count + 1)]
    return write_cumcm(
        path,
        [
            row(n, date=f"{day.year}/{day.month}/{day.day}", net="1000.0", tax="130.0", enterprise=enterprise)
            for n, day in enumerate(days, start=1)
        ],
    )


def test_a_loan_is_watched(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    with real_network(tmp_path / "net", tag_keys=False) as network:
        attest(network, sales(tmp_path / "e1.csv", "E1", today, 8), "--through", today.isoformat())
        _watch(network, tmp_path, today)


def _watch(network: RealNetwork, folder: Path, today: date) -> None:
    giver = Enterprise(network, "cumcm:E1")
    giver.register()
    product = decode_product(PRODUCT, {})
    asked = questions(product, giver.subject, {INVOICES: 1}, today)
    artefact = giver.grant("bank1", details=consent_details(asked), max_uses=10)
    recipient = network.homes["bank1"].config.number
    receiver, store = Receiver(), WatchStore(folder / "watch.sqlite")
    courier = Courier(store, {receiver.url: SECRET}, now_ms=now_ms)
    with network.client("bank1", patience_s=60.0) as client:
        files = collect_evidence(client, asked, artefact.raw, request="pay-out", wait_s_max=60).files
        verified = verify_evidence_set(
            files, network.policy, recipient=recipient, now_ms=now_ms(), age_ms_max=AGE_MS_MAX
        )
        loan = watched_of("L1", "watched", today.isoformat(), files, verified)
        store.enrol(loan)
        watcher = Watcher(
            store,
            ClientState(client),
            ClientRecheck(
                client,
                decode_policies(network.homes["bank1"].policy()),
                recipient=recipient,
                issuers={INVOICES: 1},
                age_ms_max=AGE_MS_MAX,
                wait_s_max=60,
            ),
            lambda _id: product,
            urls=(receiver.url,),
            now_ms=now_ms,
        )

        def heard() -> list[str]:
            return [each.rule for each in store.alerts()]

        begin = EventId.after_block(loan.height)
        # Others' records of the same kinds and years come and go: nothing of the consent is used.
        attest(network, sales(folder / "e2.csv", "E2", today, 8))
        red = row(
            "99", date=f"{today.year}/{today.month}/{today.day}", net="-900.0", tax="-117.0", gross="-1017.0"
        )
        attest(network, write_cumcm(folder / "red.csv", [red]))
        watcher.run(Until(client, lambda: "watch_red_letters" in heard()), after=begin)
        assert heard() == ["watch_red_letters"]
        assert store.alerts()[0].data["value"] == 112_500
        assert len(giver.settled_uses()) == 2
        assert watcher.check_lateness() == []

        answered(giver.order(artefact, "revoke"))
        watcher.run(Until(client, lambda: "consent_ended" in heard()), after=begin)
        attest(network, write_cumcm(folder / "more.csv", [row("100", date=f"{today.year}/{today.month}/1")]))
        watcher.run(Until(client, lambda: "cannot_recheck" in heard()), after=begin)
        assert heard() == ["watch_red_letters", "consent_ended", "cannot_recheck"]
        assert store.alerts()[2].data["codes"] == "consent_revoked"
        assert len(giver.settled_uses()) == 2

        assert courier.deliver_due() == 3
        said = [Webhook(SECRET).verify(body, headers) for _path, headers, body in receiver.got]
        assert sorted(each["data"]["rule"] for each in said) == sorted(heard())
    courier.close()
    store.close()
    receiver.close()
