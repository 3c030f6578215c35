"""What banks' nodes hold and hear about an enterprise that gave no consent: nothing that names or tells.

Stores, logs, tiles, the exported ledger and everything on the wire to and from the three banks' nodes are searched
for its name, secrets, salts, invoice numbers, counterparties and field values, as text, msgpack, base64 and hex. The
same search finds what was planted, so it can.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from custodykit import row, write_cumcm
from sharing import Enterprise, attest

from network import RealNetwork, real_network
from taxledger.ledger import canonical
from taxledger.ledger.consent import Artefact
from taxledger.ledger.genesis import chain_id
from taxledger.ledger.records import field_salt
from taxledger.ledger.statekeys import tag_prefix
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.homeconfig import host_port
from taxledger.nodes.sealed.homekeys import open_key_provider

BANKS = ("bank1", "bank2", "bank3")
LENGTH_MIN = 6
"""Shorter values stand in random bytes by chance."""


class Capture:
    """Every packet of the loopback interface to or from some ports, as the kernel shows it."""

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x0003))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._end = threading.Event()
        self._streams: dict[tuple[int, int], bytearray] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                packet, address = self._socket.recvfrom(1 << 17)
                if address[2] == socket.PACKET_OUTGOING:
                    continue  # on loopback each packet is seen twice
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        if packet[12:14] != b"\x08\x00" or packet[23] != 6:  # IPv4, TCP
            return
        transport = 14 + 4 * (packet[14] & 15)
        source, target = (int.from_bytes(packet[transport + at : transport + at + 2], "big") for at in (0, 2))
        if {source, target} & self._ports:
            content = packet[transport + 4 * (packet[transport + 12] >> 4) :]
            self._streams.setdefault((source, target), bytearray()).extend(content)

    def stop(self) -> bytes:
        """All that was heard, connection by connection."""
        self._end.set()
        self._thread.join()
        self._socket.close()
        return b"\n".join(bytes(stream) for stream in self._streams.values())


def may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except (OSError, AttributeError):
        return False
    return True


def forms(value: bytes | str | int) -> Iterator[bytes]:
    """How a value could stand in bytes: as it is, as msgpack, hex, and base64 at each of three offsets."""
    raw = value if isinstance(value, bytes) else str(value).encode()
    yield raw
    packed = canonical.encode(value)
    if len(packed) >= LENGTH_MIN:
        yield packed
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for offset in range(3):
        # Without the characters at both ends, which also depend on what stands beside the value.
        text = base64.b64encode(bytes(offset) + raw)
        begin = -(-8 * offset // 6)
        inner = text[begin + (offset > 0) : len(text) - 4] if len(raw) % 3 or offset else text.rstrip(b"=")
        if len(inner) >= 8:
            yield inner


def found(values: Iterable[bytes | str | int], places: dict[str, bytes]) -> list[tuple[object, str]]:
    """(value, place) of everything that stands somewhere."""
    hits = []
    for value in values:
        for form in set(forms(value)):
            hits += [(value, name) for name, content in places.items() if form in content]
    return hits


def secrets_of(network: RealNetwork, subject: str) -> set[bytes | str | int]:
    """Everything about a subject that nobody else may come to know, straight from the vault."""
    home = network.homes["tax"]
    vault = Vault.open(home.vault_path, open_key_provider(home), chain_id=chain_id(home.genesis()), member=1)
    values: set[bytes | str | int] = {subject, subject.partition(":")[2]}
    try:
        for year in vault.years():
            entry = vault.tag(subject, 5, year)
            keys = vault.year(year)
            assert entry is not None
            assert keys is not None
            values |= {entry.sigma, keys.secret}
            for _stored, opened in vault.newest(tag_prefix(1, 5, entry.tag)):
                values.add(opened.secret)
                values |= {field_salt(opened.secret, at) for at in range(len(opened.values))}
                values |= {each for each in opened.values if each is not None and type(each) is not bool}
    finally:
        vault.close()
    return {
        each for each in values if len(each if isinstance(each, bytes | str) else str(each)) >= LENGTH_MIN
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tiles_of(network: RealNetwork, bank: str) -> bytes:
    """All tiles of the certified log, whole and partial."""
    size = int(network.status(bank)["size"])
    pieces, level = [], 0
    while size:
        for index in range(-(-size // 256)):
            width = min(256, size - 256 * index)
            path = f"/v1/tile/{level}/{index:03}" + (f".p/{width}" if width < 256 else "")
            answer = network.get(bank, path)
            assert answer.status_code == 200, (path, answer.text)
            pieces.append(answer.content)
        size, level = size // 256, level + 1
    return b"".join(pieces)


def ports_of(network: RealNetwork, bank: str) -> set[int]:
    config = network.homes[bank].config
    ports = {host_port(config.peer_url)[1], host_port(config.api_url)[1]}
    if config.engine_address is not None:
        ports.add(int(config.engine_address.rpartition(":")[2]))
    return ports


def hidden_rows(count: int, enterprise: str) -> list[tuple[str, ...]]:
    """Sales whose every value but the date is long and unlike any other's, of this enterprise or another."""
    base = 10_000 * int(enterprise[1:3])
    return [
        row(
            71_000_000 + base + 97 * n,
            date=f"2025/{1 + n % 12}/{1 + n % 28}",
            party=f"B9{enterprise[1:]}{n:03}77",
            net=f"{61_234_567 + 7 * base + 1_013 * n}.{10 + n % 89}",
            tax=f"{7_960_493 + base + 131 * n}.{11 + n % 83}",
            enterprise=enterprise,
        )
        for n in range(1, count + 1)
    ]


@pytest.mark.skipif(not may_capture(), reason="it needs the right to open raw sockets")
def test_nothing_of_an_enterprise_without_consent_is_at_a_bank(tmp_path: Path) -> None:
    with real_network(tmp_path / "net", tag_keys=False) as network:
        capture = Capture(set().union(*(ports_of(network, bank) for bank in BANKS)))
        try:
            hidden = write_cumcm(tmp_path / "hidden.csv", hidden_rows(40, "E98765"))
            shown = write_cumcm(tmp_path / "shown.csv", hidden_rows(40, "E54321"))
            attest(network, hidden)
            attest(network, shown)
            giver = Enterprise(network, "cumcm:E54321")
            giver.register()
            for bank in BANKS:
                artefact = giver.grant(bank, mode="store", retention_days=30)
                answer = giver.ask(bank, artefact)
                assert len(giver.verify(bank, answer.content).answer.records) == 40
            giver.settled_uses()
            network.agree()
            places = {f"tiles of {bank}": tiles_of(network, bank) for bank in BANKS}
            places |= {f"ledger of {bank}": network.get(bank, "/v1/export").content for bank in BANKS}
        finally:
            heard = capture.stop()
        values, known = secrets_of(network, "cumcm:E98765"), secrets_of(network, "cumcm:E54321")
        assert len(values) > 300
        network.stop()
        for bank in BANKS:
            places |= files_of(network.homes[bank].path)
        places["wire"] = heard
        assert len(heard) > 200_000, "the capture heard next to nothing"
        common = {each for each in values & known if isinstance(each, str)}  # dates, and words of the schema
        assert found(values - common - set(_words()), places) == []

        # The search works: what was shown to the banks stands on the wire between them and their own clients, and
        # what is planted in a file, in any form, is found.
        assert {name for _, name in found(["cumcm:E54321"], places)} >= {"wire"}
        for value in sorted(values - common, key=str)[:25]:
            for form in set(forms(value)):
                planted = places | {"planted": b"\x00" * 7 + form + b"\x01" * 5}
                assert (value, "planted") in found([value], planted)
        sealed = places["bank1/received.sqlite"]
        assert len(sealed) > 10_000
        assert found(known - common - set(_words()), {"received": sealed}) == []


def _words() -> Iterator[str]:
    """Field values that are words of the format, and say nothing of anybody."""
    yield from ("purchase", "reversed", "vat_invoice")


def test_a_bank_cannot_see_consents_to_other_banks(tmp_path: Path) -> None:
    """From its own node's bytes: holders and ids of other banks' consents can't be told from those of others."""
    with real_network(tmp_path / "net", tag_keys=False) as network:
        attest(network, write_cumcm(tmp_path / "e.csv", hidden_rows(5, "E54321")))
        giver, other = Enterprise(network, "cumcm:E54321"), Enterprise(network, "cumcm:E98765")
        giver.register()
        other.register()
        mine = giver.grant("bank1")
        rival = giver.grant("bank2")
        stranger = other.grant("bank2")
        network.agree()
        network.stop()
        held = b"".join(files_of(network.homes["bank1"].path).values())
        # All consents are in the ledger that every member holds …
        for artefact in (mine, rival, stranger):
            assert artefact.id(1) in held
            assert artefact.terms.holder in held
        # … but nothing in it says whose they are: what bank1 knows of its customer (artefact, holder, nonce, key)
        # stands beside its own consent only, and no two consents share a byte string of their own.
        parts = {
            name: {artefact.id(1), artefact.terms.holder, artefact.digest(1), _revoke_hash(artefact)}
            for name, artefact in (("mine", mine), ("rival", rival), ("stranger", stranger))
        }
        assert not parts["mine"] & parts["rival"]
        assert not parts["rival"] & parts["stranger"]
        for artefact in (rival, stranger):
            for secret in (
                artefact.raw,
                artefact.terms.nonce,
                artefact.public_key,
                artefact.terms.subject.encode(),
            ):
                assert secret not in held


def _revoke_hash(artefact: Artefact) -> bytes:
    return artefact.terms.custodian(1).revoke_hash
