"""Delivering alerts: signed, retried, never redirected, to a real server on this machine."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from receiver import SECRET, Receiver
from standardwebhooks import Webhook, WebhookVerificationError

from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.watch import Alert, Courier, WatchStore
from taxledger.lending.watch.alerts import alert_id
from taxledger.lending.watch.store import Outcome
from taxledger.lending.watch.webhooks import check_receiver, pause_ms


def now_ms() -> int:
    """The real time, when it is asked: a receiver takes no message older than five minutes."""
    return time.time_ns() // 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ms = now_ms()

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchStore]:
    made = WatchStore(tmp_path / "watch.sqlite")
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def raise_alert(store: WatchStore, *urls: str, event: str = "7-0") -> Alert:
    alert = Alert(
        id=alert_id("L1", event, "watch_gap"),
        loan="L1",
        event=event,
        rule="watch_gap",
        severity="warning",
        text="no sales",
        text_zh="超过60天无销售",
        raised_ms=now_ms(),
        data={"value": 61},
    )
    store.commit([Outcome(loan="L1", alerts=(alert,))], None, urls, now_ms())
    return alert


def courier(store: WatchStore, receiver: Receiver, clock: Clock) -> Courier:
    return Courier(store, {receiver.url: SECRET}, now_ms=clock)


def test_a_receiver_can_verify_what_it_gets(store: WatchStore, receiver: Receiver) -> None:
    alert = raise_alert(store, receiver.url)
    sender = courier(store, receiver, Clock())
    assert sender.deliver_due() == 1
    assert sender.deliver_due() == 0
    sender.close()
    ((path, headers, body),) = receiver.got
    assert path == "/alerts"
    assert headers["webhook-id"] == f"msg_{alert.id}"
    said = Webhook(SECRET).verify(body, headers)
    assert said["type"] == "taxledger.loan.alert"
    assert said["data"]["text_zh"] == "超过60天无销售"
    assert said["data"]["data"] == {"value": 61}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"61", b"62"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(bytes(32)).decode()).verify(body, headers)
    (delivery,) = store.deliveries(alert.id)
    assert (delivery.state, delivery.attempts, delivery.said) == ("delivered", 1, "status 204")


def test_failures_are_tried_again_later_and_not_for_ever(store: WatchStore, receiver: Receiver) -> None:
    alert = raise_alert(store, receiver.url)
    clock = Clock()
    sender = courier(store, receiver, clock)
    receiver.answers = [500] * 20
    pauses = []
    while (delivery := store.deliveries(alert.id)[0]).state == "pending":
        clock.now_ms = delivery.next_ms - 1
        before = len(receiver.got)
        if before:
            sender.deliver_due()
            assert len(receiver.got) == before, "tried too early"
        clock.now_ms += 1
        sender.deliver_due()
        pauses.append((store.deliveries(alert.id)[0].next_ms - clock.now_ms) // 1000)
    sender.close()
    assert pauses == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 0]
    assert store.deliveries(alert.id)[0].state == "failed"
    assert len({headers["webhook-id"] for _path, headers, _body in receiver.got}) == 1
    assert len({headers["webhook-timestamp"] for _path, headers, _body in receiver.got}) == 10
    assert pause_ms(10) is None


def test_a_crash_loses_no_delivery(tmp_path: Path, receiver: Receiver) -> None:
    path = tmp_path / "again.sqlite"
    first = WatchStore(path)
    raise_alert(first, receiver.url)
    first.close()  # nothing was sent
    second = WatchStore(path)
    sender = courier(second, receiver, Clock())
    assert sender.deliver_due() == 1
    sender.close()
    second.close()
    assert len(receiver.got) == 1


def test_a_redirect_is_not_followed(store: WatchStore, receiver: Receiver) -> None:
    alert = raise_alert(store, receiver.url)
    receiver.answers = [307]
    sender = courier(store, receiver, Clock())
    assert sender.deliver_due() == 0
    sender.close()
    assert [path for path, _headers, _body in receiver.got] == ["/alerts"]
    assert store.deliveries(alert.id)[0].said == "status 307"


def test_gone_is_final(store: WatchStore, receiver: Receiver) -> None:
    alert = raise_alert(store, receiver.url)
    receiver.answers = [410]
    sender = courier(store, receiver, Clock())
    sender.deliver_due()
    sender.close()
    assert store.deliveries(alert.id)[0].state == "failed"


def test_one_receiver_that_is_down_holds_up_no_other(store: WatchStore, receiver: Receiver) -> None:
    gone = Receiver()
    gone.close()
    alert = raise_alert(store, gone.url, receiver.url)
    sender = Courier(store, {gone.url: SECRET, receiver.url: SECRET}, now_ms=Clock())
    assert sender.deliver_due() == 1
    sender.close()
    said = {each.url: (each.state, each.said) for each in store.deliveries(alert.id)}
    assert said[receiver.url] == ("delivered", "status 204")
    assert said[gone.url] == ("pending", "no answer: ConnectError")


def test_an_address_that_is_not_configured_gets_nothing(store: WatchStore, receiver: Receiver) -> None:
    other = "https://old.example/alerts"
    alert = raise_alert(store, other)
    sender = courier(store, receiver, Clock())
    assert sender.deliver_due() == 0
    sender.close()
    assert receiver.got == []
    assert store.deliveries(alert.id)[0].attempts == 0


def test_trouble_of_the_moment_does_not_end_it(
    store: WatchStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, stop = courier(store, receiver, Clock()), threading.Event()
    asked: list[int] = []

    def deliver() -> int:
        asked.append(1)
        if len(asked) == 1:
            raise UnavailableError("the watch file: database or disk is full")
        stop.set()
        return 0

    monkeypatch.setattr(sender, "deliver_due", deliver)
    sender.run(stop, every_s=0)
    assert len(asked) == 2
    sender.close()


def test_running_until_told_to_stop(store: WatchStore, receiver: Receiver) -> None:
    raise_alert(store, receiver.url)
    stop = threading.Event()
    sender = courier(store, receiver, Clock())
    thread = threading.Thread(target=sender.run, args=(stop, 0.01))
    thread.start()
    end = time.monotonic() + 30
    while store.deliveries()[0].state != "delivered":
        assert time.monotonic() < end
        stop.wait(0.01)
    stop.set()
    thread.join()
    sender.close()


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("http://bank.example/x", SECRET, "expected https"),
        ("ftp://bank.example/x", SECRET, "expected https"),
        ("http://127.0.0.1.evil.example/x", SECRET, "expected https"),
        ("http://localhost.evil.example/x", SECRET, "expected https"),
        ("https://user:pass@bank.example/x", SECRET, "without password"),
        ("https:///x", SECRET, "without password"),
        ("https://bank.example/x", "whsec_", "expected a secret"),
        ("https://bank.example/x", SECRET[6:], "expected a secret"),
        ("https://bank.example/x", "whsec_AAAA", "expected a secret"),
        ("https://bank.example/x", SECRET + "!!", "expected a secret"),
        ("https://bank.example/x", "whsec_" + base64.b64encode(bytes(65)).decode(), "expected a secret"),
    ],
)
def test_receivers_that_are_refused(store: WatchStore, url: str, secret: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        Courier(store, {url: secret}, now_ms=Clock())
    assert secret[6:] not in str(caught.value) or len(secret) < 12
    assert "pass@" not in str(caught.value)


def test_receivers_that_are_taken() -> None:
    for url in ("https://bank.example/x", "http://127.0.0.1:1/x", "http://localhost:1/x", "http://[::1]:1/x"):
        check_receiver(url, SECRET)


def test_a_proxy_of_the_environment_sees_nothing(
    store: WatchStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    raise_alert(store, receiver.url)
    sender = courier(store, receiver, Clock())
    assert sender.deliver_due() == 1
    sender.close()


def test_an_endless_answer_is_not_read(store: WatchStore) -> None:
    def endless() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=endless()))
    url = "https://bank.example/alerts"
    alert = raise_alert(store, url)
    sender = Courier(store, {url: SECRET}, now_ms=Clock(), transport=transport)
    assert sender.deliver_due() == 1
    sender.close()
    assert store.deliveries(alert.id)[0].state == "delivered"
