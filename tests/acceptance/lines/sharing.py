"""Sharing under consent: each line of its list, by the tests that walk it with real processes and real input."""

from __future__ import annotations

from collections.abc import Iterator

from ..stage import Finding, Line, Stage

_LINES = (
    (
        "no path to a field without a consent: refusals, peer verbs, routes, commands",
        ("tests/e2e/test_no_field_without_consent.py", "tests/nodes/test_sharing_hostile.py"),
    ),
    (
        "revoked, paused, expired while 30,000 records stream; no more uses than were given",
        ("tests/e2e/test_disclosure_revocation.py",),
    ),
    (
        "three banks read one real enterprise: each its scope, and the list is what happened",
        ("tests/acceptance/test_three_banks.py",),
    ),
    ("kill -9 of custodian and bank at each step of a disclosure", ("tests/e2e/test_disclosure_crashes.py",)),
    (
        "nothing of others in stores, logs, tiles, traffic; no consents of rivals",
        ("tests/e2e/test_leaks.py",),
    ),
    ("pseudonyms of an upload of 100 enterprises can't be linked", ("tests/nodes/test_unlinkability.py",)),
    (
        "erasure: the attack fails after it, succeeds before it; recipients too",
        ("tests/nodes/test_erasure_attack.py", "tests/nodes/test_erasing.py", "tests/e2e/test_erasure.py"),
    ),
    (
        "an answer from before a change is refused; events within a block",
        ("tests/e2e/test_current_status.py",),
    ),
    (
        "predicates against a second implementation, superseded when an input changes",
        (
            "tests/ledger/test_predicates.py",
            "tests/nodes/test_predicate_records.py",
            "tests/nodes/test_predicates_shared.py",
        ),
    ),
    (
        "keys: file and token, rotation, certificates, rotation of members' keys",
        (
            "tests/nodes/test_keyproviders.py",
            "tests/nodes/test_rotation.py",
            "tests/nodes/test_peer_certificates.py",
            "tests/e2e/test_identity.py",
        ),
    ),
    (
        "two verifiers of disclosures agree; every way of cheating is refused",
        ("tests/ledger/test_disclosure.py", "tests/independent"),
    ),
)


def run(stage: Stage) -> Iterator[Finding]:
    for what, targets in _LINES:
        # With those marked slow: a step of a disclosure that the shorter suite leaves out is killed here.
        yield from stage.pytest(what, *targets, options=("-m", "not large"))


LINE = Line(
    name="sharing", title="sharing under consent: refusals, reads, crashes, leaks, erasure, keys", run=run
)
