"""Made-up enterprises with every kind of record, consistent with one another, from a seed.

``generate_enterprise`` makes one of a profile: ``good`` passes every rule of the reference products, and each other
profile breaks exactly what it says. ``write_enterprises`` writes files that ``taxledger attest`` reads.
"""

from __future__ import annotations

from taxledger.nodes.generating.enterprise import GeneratedEnterprise, generate_enterprise, generate_twins
from taxledger.nodes.generating.files import write_enterprises
from taxledger.nodes.generating.profiles import PROFILES, Profile
from taxledger.nodes.generating.setting import GeneratedRow

__all__ = [
    "PROFILES",
    "GeneratedEnterprise",
    "GeneratedRow",
    "Profile",
    "generate_enterprise",
    "generate_twins",
    "write_enterprises",
]
