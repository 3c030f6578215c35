"""Two of four down: writes wait and say why, nothing uncertified is to be seen, reads go on, and writes resume by
themselves."""

from __future__ import annotations

import base64
import io

import chainkit
import httpx
from ledgers import check_ledgers

from network import RealNetwork, until
from taxledger.ledger import statekeys
from taxledger.ledger.archive import ArchiveEnd, read_archive
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.hashing import log_leaf

TAG = 9
RECORD, LATER = 901, 902


def key_of(rid: int) -> bytes:
    return statekeys.record_key(1, chainkit.INVOICE, TAG.to_bytes(16, "big"), 3, rid.to_bytes(16, "big"))


def transaction(net: RealNetwork, rid: int) -> bytes:
    return net.sign(chainkit.attest(chainkit.group(rid, tag=TAG)))


def put(net: RealNetwork, member: str, raw: bytes) -> None:
    """Hand a transaction in without waiting."""
    answer = net.request(
        "POST",
        member,
        "/v1/transactions?wait=none",
        content=raw,
        headers={"Content-Type": "application/cose"},
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "pending"


def events_so_far(net: RealNetwork, member: str) -> bytes:
    """All events from the beginning, until the stream falls silent."""
    body = b""
    client = net.homes[member].client()
    headers = {"Authorization": f"Bearer {client.key}"}
    timeout = httpx.Timeout(10.0, read=1.0)
    url = f"{client.url}/v1/events?after=0"
    with httpx.stream("GET", url, headers=headers, timeout=timeout) as stream:
        try:
            for piece in stream.iter_bytes():
                body += piece
        except httpx.ReadTimeout:
            pass
    return body


def seen(net: RealNetwork, member: str, size: int) -> dict[str, bytes]:
    """Every route that could show something of the ledger, as this node answers it now."""
    paths = {
        "status": "/v1/status",
        "checkpoint": "/v1/checkpoint",
        "metrics": "/metrics",
        "export": "/v1/export",
        "state": f"/v1/state?prefix={statekeys.tag_prefix(1, chainkit.INVOICE, TAG.to_bytes(16, 'big')).hex()}",
        "record": f"/v1/state/{key_of(RECORD).hex()}",
        "later": f"/v1/state/{key_of(LATER).hex()}",
        "through": "/v1/state?prefix=09",
        "tile": f"/v1/tile/0/000.p/{size}",
    }
    answers = {}
    for name, path in paths.items():
        response = net.get(member, path)
        assert response.status_code == 200, (name, response.text)
        answers[name] = response.content
    assert net.get(member, f"/v1/tile/0/000.p/{size + 1}").status_code == 404
    for rid in (RECORD, LATER):
        history = net.request("POST", member, "/v1/records/history", json={"key": key_of(rid).hex()})
        assert history.status_code == 404, history.text
    answers["events"] = events_so_far(net, member)
    return answers


def check_hidden(net: RealNetwork, member: str, height: int, size: int, *hidden: bytes) -> None:
    """This node shows its certified state, all of it, and nothing of these transactions."""
    answers = seen(net, member, size)
    status = net.status(member)
    assert (status["height"], status["size"], status["ready"]) == (height, size, True)
    note = decode_note(answers["checkpoint"])
    assert (note.checkpoint.size, note.checkpoint.root.hex()) == (size, status["log_root"])
    assert len(note.cosign_lines) == 3
    frames = list(read_archive(io.BytesIO(answers["export"])))
    assert isinstance(frames[-1], ArchiveEnd)
    assert len(frames) == height + 2
    last = [line for line in answers["events"].decode().splitlines() if line.startswith("id: ")][-1]
    assert int(last.removeprefix("id: ").split("-")[0]) <= height
    for raw in hidden:
        transaction_id = log_leaf(raw)
        assert net.get(member, f"/v1/transactions/{transaction_id.hex()}").status_code == 404
        for name, body in answers.items():
            for secret in (transaction_id, raw):
                for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
                    assert form not in body, f"{member} shows an uncertified transaction on {name}"


def check_waiting(net: RealNetwork) -> None:
    """Both that are left say that writes wait, and for whom; so does ``network status``."""

    def explained() -> bool:
        said = [net.status(name) for name in ("tax", "bank1")]
        return all(
            each.get("writes") == "waiting" and "bank2" in each["reason"] and "bank3" in each["reason"]
            for each in said
        )

    until(explained, "waiting, with the reason")


def test_nothing_uncertified_is_visible(net: RealNetwork) -> None:
    old = net.submit(transaction(net, 900))
    net.agree()
    # bank2 and bank3 die after their vote for the next block, before they hold it: it is decided by the votes of all,
    # and can't be certified by the two that are left.
    for victim in ("bank2", "bank3"):
        net.stop(victim)
        net.break_at(victim, 1, "before", kind="commit")
        net.start(victim, restart=False)
    before = net.agree()
    height, size = before["height"], before["size"]
    decided, undecided = transaction(net, RECORD), transaction(net, LATER)
    put(net, "tax", decided)
    until(lambda: not {"bank2", "bank3"} & set(net.pids()), "both are dead")
    until(lambda: net.status("bank1").get("uncertified_blocks") == 1, "bank1 holds the decided block")
    put(net, "bank1", undecided)
    check_waiting(net)
    for name in ("tax", "bank1"):
        check_hidden(net, name, height, size, decided, undecided)
        assert net.get(name, f"/v1/transactions/{old.id.hex()}").status_code == 200
        with net.client(name) as client:  # proved, under a checkpoint that three have co-signed
            assert client.transaction(old.id) is not None
            assert client.checkpoint().checkpoint.size == size
    # Neither does a start show what lies durable and uncertified in the store.
    net.kill("tax")
    until(lambda: net.status("tax").get("uncertified_blocks") == 1, "the sequencer is back")
    check_waiting(net)
    check_hidden(net, "tax", height, size, decided, undecided)
    put(net, "tax", undecided)
    net.start("bank2")
    until(
        lambda: net.get("tax", f"/v1/transactions/{log_leaf(undecided).hex()}").status_code == 200, "resumed"
    )
    net.agree("tax", "bank1", "bank2")
    for name in ("tax", "bank1", "bank2"):
        with net.client(name) as client:
            found = client.state(key_of(RECORD), key_of(LATER))
            assert all(found.entries[key_of(rid)] for rid in (RECORD, LATER))
    net.start("bank3")
    net.agree()
    receipts = [net.submit(raw) for raw in (decided, undecided)]
    net.stop()
    print(check_ledgers(net, {receipt.id: receipt for receipt in receipts}))
