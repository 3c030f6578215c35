"""What a recipient keeps, and how it is destroyed: by retention, by notice, by hand, through kill -9 at each step."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from disclosurekit import QUERY, build
from sweeping import BANK, CUSTODIAN, LATE_MS, NOTICE, FileLedger, make_sweeper, open_store
from world import AGE_MS_MAX, NOW_MS

from taxledger.ledger.consentstate import data_erased_digest
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.errors import FormatError, InvariantError, RefusedError, UnavailableError
from taxledger.nodes.custodian.outbox import Receipt
from taxledger.nodes.recipient.store import RECORDED, SCRUBBED, ReceivedStore

DAY_MS = 86_400_000


@functools.cache
def disclosure(mode: str = "store") -> tuple[bytes, Disclosed]:
    world, data, _artefact = build(mode=mode, retention_days=30 if mode == "store" else 0)
    said = verify_disclosure(data, world.policy, QUERY, recipient=BANK, now_ms=NOW_MS, age_ms_max=AGE_MS_MAX)
    return data, said


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def kept(store: ReceivedStore) -> Disclosed:
    data, said = disclosure()
    store.keep(data, said, received_ms=NOW_MS)
    return said


def erased(folder: Path) -> list[str]:
    return FileLedger(folder / "ledger.txt").lines()


def cells(folder: Path) -> list[bytes]:
    """The sealed cells of everything that is kept, and the keyed hashes of its records."""
    connection = sqlite3.connect(folder / "received.sqlite")
    rows = connection.execute("SELECT sealed FROM disclosures UNION ALL SELECT summary FROM disclosures")
    found = [row[0] for row in rows] + [
        row[0] for row in connection.execute("SELECT lookup FROM shown_records")
    ]
    connection.close()
    return found


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("received.sqlite*")))


# --- keeping --------------------------------------------------------------------------------


def test_what_may_be_stored_is_kept_sealed(store: ReceivedStore, tmp_path: Path) -> None:
    data, said = disclosure()
    entry = store.keep(data, said, received_ms=NOW_MS)
    again = store.keep(data, said, received_ms=NOW_MS + DAY_MS)
    assert again == entry, "retention counts from the first time"
    assert store.stored() == (entry,)
    assert (entry.consent, entry.sequence, entry.custodian) == (said.consent, 1, 1)
    assert (entry.subject, entry.records, entry.file_bytes) == (QUERY.subject, 25, len(data))
    assert entry.erase_after_ms == NOW_MS + 30 * DAY_MS
    assert store.load(said.consent, 1) == data
    on_disk = files(tmp_path)
    assert said.consent in on_disk, "the search works"
    for hidden in (QUERY.subject.encode(), said.answer.records[0].key, data[100:116]):
        assert hidden not in on_disk


@pytest.mark.parametrize("mode", ["view"])
def test_another_mode_is_never_kept(store: ReceivedStore, mode: str) -> None:
    data, said = disclosure(mode)
    with pytest.raises(InvariantError):
        store.keep(data, said, received_ms=NOW_MS)
    assert store.stored() == ()


def test_what_is_not_kept_is_refused(store: ReceivedStore) -> None:
    for call in (
        lambda: store.load(bytes(16), 1),
        lambda: store.destroy(bytes(16), 1, "words", now_ms=NOW_MS),
    ):
        with pytest.raises(RefusedError) as caught:
            call()
        assert caught.value.code == "disclosure_unknown"


# --- retention ------------------------------------------------------------------------------


def test_retention_ends(store: ReceivedStore, tmp_path: Path) -> None:
    said = kept(store)
    data, _said = disclosure()
    hidden = cells(tmp_path)
    day = asyncio.run(make_sweeper(tmp_path, store, NOW_MS + 30 * DAY_MS - 1).sweep())
    assert day == 0
    assert store.load(said.consent, 1, now_ms=NOW_MS + 30 * DAY_MS - 1) == data
    with pytest.raises(RefusedError, match="disclosure_unknown"):  # also before the sweeper has come
        store.load(said.consent, 1, now_ms=NOW_MS + 30 * DAY_MS)
    assert asyncio.run(make_sweeper(tmp_path, store, NOW_MS + 30 * DAY_MS).sweep()) == 1
    assert store.stored() == ()
    assert len(erased(tmp_path)) == 1
    assert erased(tmp_path)[0].endswith(" 25")
    assert len(hidden) == 27
    assert not [each for each in hidden if each in files(tmp_path)]
    with pytest.raises(RefusedError) as caught:
        store.keep(data, said, received_ms=NOW_MS)
    assert caught.value.code == "disclosure_destroyed"
    assert asyncio.run(make_sweeper(tmp_path, store).sweep()) == 0
    assert len(erased(tmp_path)) == 1


def test_a_ledger_that_is_down_keeps_nothing(store: ReceivedStore, tmp_path: Path) -> None:
    said = kept(store)
    hidden = cells(tmp_path)

    async def down(payload: bytes) -> Receipt:
        raise UnavailableError("down")

    sweeper = make_sweeper(tmp_path, store)
    working, sweeper._submit = sweeper._submit, down
    with pytest.raises(UnavailableError):
        asyncio.run(sweeper.sweep())
    assert not [each for each in hidden if each in files(tmp_path)]
    (waiting,) = store.unsaid()
    assert (waiting.consent, waiting.reason, waiting.state) == (said.consent, "retention", SCRUBBED)
    sweeper._submit = working
    asyncio.run(sweeper.sweep())
    assert erased(tmp_path) == [f"{waiting.digest.hex()} 25"]
    assert store.unsaid() == []


def test_what_the_ledger_had_already_is_not_said_again(store: ReceivedStore, tmp_path: Path) -> None:
    kept(store)
    sweeper = make_sweeper(tmp_path, store)
    submit = sweeper._submit
    submissions = []

    async def lost(payload: bytes) -> Any:
        submissions.append(payload)
        await submit(payload)
        raise UnavailableError("the answer was lost")

    sweeper._submit = lost
    with pytest.raises(UnavailableError):
        asyncio.run(sweeper.sweep())
    asyncio.run(sweeper.sweep())
    assert len(submissions) == 1
    assert store.unsaid() == []


def test_a_refused_one_keeps_none_waiting(store: ReceivedStore, tmp_path: Path) -> None:
    kept(store)
    sweeper = make_sweeper(tmp_path, store)

    async def refused(payload: bytes) -> Receipt:
        return Receipt(code=1)

    sweeper._submit = refused
    with pytest.raises(RefusedError) as caught:
        asyncio.run(sweeper.sweep())
    assert caught.value.code == "ledger_refused"
    assert len(store.unsaid()) == 1


def test_discard(store: ReceivedStore, tmp_path: Path) -> None:
    said = kept(store)
    sweeper = make_sweeper(tmp_path, store, NOW_MS)
    with pytest.raises(FormatError):
        asyncio.run(sweeper.discard(said.consent, 1, reason=""))
    digest = asyncio.run(sweeper.discard(said.consent, 1, reason="the application was withdrawn"))
    assert erased(tmp_path) == [f"{digest.hex()} 25"]
    assert store.stored() == ()
    with pytest.raises(RefusedError) as caught:
        asyncio.run(sweeper.discard(said.consent, 1, reason="again"))
    assert caught.value.code == "disclosure_unknown"


# --- notices --------------------------------------------------------------------------------


def notice(keys: list[bytes]) -> list[Any]:
    return [1, "erase_notice", NOTICE, keys]


def test_a_notice_destroys_what_shows_a_record(store: ReceivedStore, tmp_path: Path) -> None:
    said = kept(store)
    data, _said = disclosure()
    keys = sorted(each.key for each in said.answer.records)[:1]
    sweeper = make_sweeper(tmp_path, store, NOW_MS)
    answer = asyncio.run(sweeper.on_erase_notice(CUSTODIAN, notice(keys)))
    ((consent, sequence, reason, salt),) = answer
    assert (consent, sequence, reason) == (said.consent, 1, "notice")
    digest = data_erased_digest(salt, consent, sequence, reason)
    assert erased(tmp_path) == [f"{digest.hex()} 25"]
    assert store.stored() == ()
    assert asyncio.run(sweeper.on_erase_notice(CUSTODIAN, notice(keys))) == answer
    assert len(erased(tmp_path)) == 1
    with pytest.raises(RefusedError):
        store.keep(data, said, received_ms=NOW_MS)


def test_a_disclosure_on_its_way_is_not_kept_after_a_notice(store: ReceivedStore, tmp_path: Path) -> None:
    data, said = disclosure()
    keys = [max(each.key for each in said.answer.records)]
    assert asyncio.run(make_sweeper(tmp_path, store).on_erase_notice(CUSTODIAN, notice(keys))) == []
    with pytest.raises(RefusedError) as caught:
        store.keep(data, said, received_ms=NOW_MS)
    assert caught.value.code == "disclosure_destroyed"


def test_a_notice_alone_destroys_nothing(store: ReceivedStore, tmp_path: Path) -> None:
    said = kept(store)
    keys = sorted(each.key for each in said.answer.records)
    sweeper = make_sweeper(tmp_path, store, NOW_MS)
    with pytest.raises(RefusedError) as caught:
        asyncio.run(sweeper.on_erase_notice(3, notice(keys)))
    assert caught.value.code == "notice_foreign"
    sweeper._state_value = lambda key: None
    with pytest.raises(UnavailableError):
        asyncio.run(sweeper.on_erase_notice(CUSTODIAN, notice(keys)))
    for bad in ([], [1, "erase_notice", NOTICE, []], notice(keys[::-1]), [1, "erase_notice", b"", keys]):
        with pytest.raises(FormatError):
            asyncio.run(sweeper.on_erase_notice(CUSTODIAN, bad))
    assert len(store.stored()) == 1
    assert erased(tmp_path) == []


# --- kill -9 --------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["retention", "notice"])
def test_kill_at_each_step(tmp_path: Path, what: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    store = open_store(base)
    said = kept(store)
    store.close()
    keys = sorted(each.key for each in said.answer.records)
    (base / "keys.txt").write_text(" ".join(each.hex() for each in keys))
    # Of what a notice named, the keyed hashes stay: nothing that shows it is kept again.
    hidden = cells(base)[: None if what == "retention" else 2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    step, killed = 0, True
    while killed:
        folder = tmp_path / str(step)
        shutil.copytree(base, folder)
        command = [sys.executable, str(Path(__file__).with_name("sweeping.py")), str(folder), what, str(step)]
        process = subprocess.run(command, env=env, check=False)
        killed = process.returncode == -signal.SIGKILL
        assert killed or process.returncode == 0
        store = open_store(folder)
        sweeper = make_sweeper(folder, store, LATE_MS if what == "retention" else NOW_MS)
        asyncio.run(sweeper.sweep())
        if what == "notice":
            ((consent, *_rest),) = asyncio.run(sweeper.on_erase_notice(CUSTODIAN, notice(keys)))
            assert consent == said.consent
            (destroyed,) = store.destroyed_by(NOTICE)
            assert destroyed.state == RECORDED
        assert store.stored() == ()
        assert len(erased(folder)) == 1, f"killed at step {step}"
        assert not [each for each in hidden if each in files(folder)], f"killed at step {step}"
        store.close()
        step += 1
    assert step > 8
