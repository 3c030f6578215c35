"""``taxledger policy``: the trust root, and how it follows changes of the validators by proof.

Nothing is believed of whoever gives the proofs, a node or a file: each new set of validators was named by a quorum of
the one before, beginning with the policy file at hand (docs/protocol.md §18).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import (
    JsonOption,
    note,
    open_home,
    parse_instant,
    print_json,
    read_file,
    say,
    write_file,
)

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.ledger.policy import Policy
    from taxledger.ledger.policychain import FollowedPolicy

__all__ = ["register"]

_DAY_MS = 86_400_000
_KEY_BYTES_MAX = 4_096

FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="The policy file; by default that of --home.", show_default=False),
]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Ask the node of this home.", show_default=False),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Ask the node at this URL.", show_default=False)
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="Holds the API key for --url.", show_default=False),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", metavar="PEM", help="The authority of the URL's certificate.", show_default=False),
]
TrustOption = Annotated[
    int, typer.Option("--trust-days", metavar="N", min=1, help="How long ago it may have been verified.")
]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _policy_path(file: Path | None, home: Path | None) -> Path:
    if file is not None:
        return file
    if home is None:
        raise InputError("expected a policy FILE, or --home with one")
    return open_home(home).policy_path


def _client(
    policy: Policy, home: Path | None, url: str | None, key_file: Path | None, ca: Path | None
) -> Client:
    """The node to ask; what it answers is verified, whoever it is."""
    from taxledger.api.client import Client

    if home is not None and url is None:
        access = open_home(home).client()
        return Client(access.url, access.key, policy, ca=Path(access.ca) if access.ca else None)
    if url is None or key_file is None or home is not None:
        raise InputError("expected one of --home DIR, --url URL with --key-file FILE, and --links FILE")
    key = read_file(key_file, bytes_max=_KEY_BYTES_MAX).decode("ascii", "replace").strip()
    return Client(url, key, policy, ca=ca)


# --- show ----------------------------------------------------------------------------------------


def _facts(data: bytes, trust_days: int) -> dict[str, Any]:
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.policydate import read_verified

    policy, verified = decode_policy(data), read_verified(data)
    left = None
    if verified is not None:
        left = trust_days - (_now_ms() - verified.time_s * 1_000 + _DAY_MS - 1) // _DAY_MS
    return {
        "origin": policy.origin,
        "validators": list(policy.witnesses),
        "quorum": policy.threshold,
        "validators_hash": policy.validators_hash,
        "verified": None if verified is None else verified.text,
        "size": None if verified is None else verified.size,
        "days_left": left,
    }


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")],
    trust_days: TrustOption = limits.policy_trust_days_default,
    as_json: JsonOption = False,
) -> None:
    """Whom a policy trusts, when it was verified, and how long it can still be updated.

    Example: taxledger policy show policy.txt
    """
    facts = _facts(read_file(file, bytes_max=limits.policy_bytes_max), trust_days)
    if as_json:
        print_json(facts)
        return
    say(f"origin      {facts['origin']}")
    say(f"validators  {', '.join(facts['validators'])}; {facts['quorum']} of them must have co-signed")
    say(f"hash        {facts['validators_hash'].hex()}")
    if facts["verified"] is None:
        say("verified    never said: `policy update` needs --dated")
        return
    say(f"verified    {facts['verified']}, at {facts['size']:,} leaves")
    days = facts["days_left"]
    if days < 0:
        say(
            f"days left   none, it expired {-days} days ago: get the present policy from the network's operators"
        )
    else:
        say(f"days left   {days}: until then `taxledger policy update` can follow changes")


# --- update --------------------------------------------------------------------------------------


def _changes(before: Policy, after: Policy) -> dict[str, list[str]]:
    common = [name for name in after.witnesses if name in before.witnesses]
    new_log = {key.public_key for key in after.log_keys} - {key.public_key for key in before.log_keys}
    return {
        "joined": [name for name in after.witnesses if name not in before.witnesses],
        "left": [name for name in before.witnesses if name not in after.witnesses],
        "rekeyed": [name for name in common if after.witnesses[name] != before.witnesses[name]],
        "log_keys": sorted(key.hex() for key in new_log),
    }


def _keep_former(path: Path, data: bytes, followed: FollowedPolicy) -> Path | None:
    """Another trust root is kept beside the new one: older evidence and archives verify under it alone."""
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.policydate import policy_digest

    digest = policy_digest(data)
    if digest == policy_digest(followed.data):
        return None
    former = path.with_name(f"{path.stem}.{decode_policy(data).validators_hash.hex()[:8]}{path.suffix}")
    if former.exists() and policy_digest(former.read_bytes()) != digest:
        former = path.with_name(f"{path.stem}.{digest.hex()[:16]}{path.suffix}")
    write_file(former, data)
    return former


def update(
    file: FileArgument = None,
    home: HomeOption = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    ca: CaOption = None,
    links: Annotated[
        Path | None,
        typer.Option("--links", metavar="FILE", help="Proofs from `policy links`.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write it there instead.", show_default=False),
    ] = None,
    trust_days: TrustOption = limits.policy_trust_days_default,
    dated: Annotated[
        str | None,
        typer.Option(
            "--dated",
            metavar="INSTANT",
            help="You know by other means that the policy was good then.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a policy to the present validators, by proof; the file is replaced as a whole, or not at all.

    Example: taxledger policy update policy.txt --home net/bank1
    Example: taxledger policy update policy.txt --links policy.links
    """
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.policychain import follow_links
    from taxledger.ledger.policydate import Verified, read_verified, with_verified

    path = _policy_path(file, home)
    data = read_file(path, bytes_max=limits.policy_bytes_max)
    policy, verified = decode_policy(data), read_verified(data)
    if dated is not None:
        verified = Verified(time_s=parse_instant(dated) // 1_000, size=verified.size if verified else 0)
    trust_ms = trust_days * _DAY_MS
    if links is not None:
        proofs, age_ms_max = read_file(links, bytes_max=limits.policy_links_bytes_max), trust_ms
    else:
        with _client(policy, home, url, key_file, ca) as client:
            proofs, age_ms_max = client.policy_links(), limits.answer_age_ms_default
    followed = follow_links(
        policy, verified, proofs, now_ms=_now_ms(), trust_ms=trust_ms, age_ms_max=age_ms_max
    )
    # Kept with its date: an undated file is nobody's former policy (ledger/policies.py).
    kept = data if verified is None else with_verified(data, verified)
    former = _keep_former(path, kept, followed) if output is None else None
    write_file(output or path, followed.data)
    _say_update(policy, followed, output or path, former, as_json)


def _say_update(
    before: Policy, followed: FollowedPolicy, path: Path, former: Path | None, as_json: bool
) -> None:
    changed = _changes(before, followed.policy)
    if as_json:
        print_json(
            {
                "file": str(path),
                "former": None if former is None else str(former),
                "changes": followed.changes,
                "height": followed.header.height,
                "verified": followed.verified.text,
                "validators": list(followed.policy.witnesses),
                "quorum": followed.policy.threshold,
                **changed,
            }
        )
        return
    for what, names in (
        ("joined", changed["joined"]),
        ("left", changed["left"]),
        ("new co-signing key", changed["rekeyed"]),
    ):
        if names:
            say(f"{what}: {', '.join(names)}")
    if changed["log_keys"]:
        say(f"new log keys: {len(changed['log_keys'])}")
    if not any(changed.values()):
        say("the validators are the same")
    of = f"{followed.policy.threshold} of {', '.join(followed.policy.witnesses)}"
    say(f"{path}: {of}, verified {followed.verified.text} at block {followed.header.height}")
    if former is not None:
        note(f"the former policy is kept as {former}: older evidence and archives verify under it")


# --- links ---------------------------------------------------------------------------------------


def links(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write them.", show_default=False)
    ],
    file: FileArgument = None,
    home: HomeOption = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    ca: CaOption = None,
) -> None:
    """Get the proofs that lead from a policy to the present validators, to carry them to where no node is reached.

    Example: taxledger policy links policy.txt --home net/bank1 -o policy.links
    """
    from taxledger.ledger.policy import decode_policy
    from taxledger.ledger.policylinks import decode_links

    policy = decode_policy(read_file(_policy_path(file, home), bytes_max=limits.policy_bytes_max))
    with _client(policy, home, url, key_file, ca) as client:
        data = client.policy_links()
    found = decode_links(data)
    write_file(output, data)
    say(f"{output}: {len(found.links)} changes of the validators, {len(data):,} bytes")


def register(app: typer.Typer) -> None:
    """Add the commands ``policy …``."""
    group = typer.Typer(
        no_args_is_help=True, help="Whom a verifier trusts, followed by proof when it changes."
    )
    for command in (show, update, links):
        group.command()(command)
    app.add_typer(group, name="policy")
