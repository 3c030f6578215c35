"""Every maximum, with its unit in the name. A limit is part of the protocol unless marked local."""

from __future__ import annotations

# --- encoding -----------------------------------------------------------------------------
nesting_depth_max = 16
canonical_bytes_max = 64 * 1024 * 1024

# --- log ----------------------------------------------------------------------------------
leaf_bytes_max = 65_535
block_transactions_max = 512
block_bytes_max = 4 * 1024 * 1024
undecided_blocks_max = 1
uncertified_blocks_max = 16
archive_frame_bytes_max = block_bytes_max + 1024 * 1024
"""A block with its results, votes and co-signatures."""

# --- state map ------------------------------------------------------------------------------
map_key_bytes_max = 48

# --- time ---------------------------------------------------------------------------------
clock_skew_early_s = 60
"""A transaction counts from ``iat - clock_skew_early_s``."""
transaction_lifetime_s_max = 3_600
repeat_window_ms = 61 * 60 * 1_000
"""A leaf hash can only come again within this time of its first block."""
proposal_ahead_ms_max = 10_000
"""No vote for a block more than this ahead of the validator's own clock."""
cosignature_ahead_ms_max = 60_000
"""No verifier believes a co-signature more than this ahead of its own clock."""

# --- members ------------------------------------------------------------------------------
members_max = 1_024
validators_max = 32
name_bytes_max = 32
network_name_bytes_max = 63

# --- records ------------------------------------------------------------------------------
attest_groups_max = 2_048
attest_entries_max = 1_020
amend_changes_max = 256
fields_max = 64
field_name_bytes_max = 32
field_text_bytes_max = 1_024
subject_bytes_max = 256
schema_bytes_max = 8_192
reason_text_bytes_max = 1_024
integer_max = 2**63 - 1

# --- consents -----------------------------------------------------------------------------
consent_uses_max = 1_000_000
consent_lifetime_ms_max = 10 * 366 * 86_400_000
consent_bytes_max = 16_384
"""Of an artefact: what the subject signed, with its signature."""
instruction_bytes_max = 1_024
consent_custodians_max = 16
consent_predicates_max = 32
disclosure_part_records_max = 1_000
"""The consent is looked at again before each part."""
disclosure_part_bytes_max = 4 * 1024 * 1024
disclosure_pieces_bytes_max = 70 * 1024 * 1024
"""Frame and parts together: what may be planned, so that the file around them can be read."""
disclosure_bytes_max = 72 * 1024 * 1024
notice_records_max = 1_000
"""Record keys in an erasure notice."""

# --- pledges ------------------------------------------------------------------------------
pledged_ppm_max = 1_000_000
"""Of the open pledges of one fingerprint together: the record's whole value."""
pledge_ppm_min = 10_000
pledges_max = 16
"""Open pledges of one fingerprint."""
permit_bytes_max = 256
permits_max = 1_000
"""Local: records in one question for permits."""
pledge_proof_keys_max = 10_000
pledge_proof_bytes_max = 32 * 1024 * 1024
result_bytes_max = 1_024
"""With the numbers of all changes of a transaction."""

# --- evidence -----------------------------------------------------------------------------
evidence_bytes_max = 64 * 1024 * 1024
evidence_containers_max = 300_000
"""Arrays and maps in a file: more than the most records make."""
evidence_records_max = 200_000
evidence_years_max = 30
evidence_kinds_max = 16
checkpoint_bytes_max = 16_384
policy_bytes_max = 65_536
policy_links_max = 1_024
"""Changes of the set of validators that one file of links leads over."""
policy_links_bytes_max = 16 * 1024 * 1024
snapshot_chunk_bytes_max = 4 * 1024 * 1024
snapshot_manifest_bytes_max = 2 * 1024 * 1024
repeat_window_ms = 3_660_000
"""A transaction of a block that is older than the newest by this can't count again: its lifetime, and a minute."""
policy_trust_days_default = 90
"""Local: how long ago a policy may have been verified when it is followed to a newer one."""
answer_age_ms_default = 10 * 60 * 1_000

# --- fork evidence --------------------------------------------------------------------------
fork_bytes_max = 65_536
fork_containers_max = 128
conviction_bytes_max = 8_192
"""Of the evidence in a change: one signer, and two paths of 64 hashes at most."""

# --- loans --------------------------------------------------------------------------------
loan_offer_bytes_max = 4_096
loan_contract_bytes_max = 16_384
"""Of an acceptance, a draw order, and a contract, which holds offer and acceptance."""
loan_term_months_max = 360
loan_files_bytes_max = 256 * 1024 * 1024
"""Of all that is kept beside the events of one step."""
loan_archive_bytes_max = 256 * 1024 * 1024
loan_archive_events_max = 20_000
loan_archive_containers_max = 25_000
"""Events, payments, and the lists around them."""

# --- local (one node's own choice, not protocol) --------------------------------------------
heartbeat_ms_default = 30_000
peer_timeout_ms = 10_000
peer_message_bytes_max = 16 * 1024 * 1024
engine_message_bytes_max = 64 * 1024 * 1024
"""Between an ordering engine of its own process and us."""
page_cache_bytes_default = 64 * 1024 * 1024
verified_signatures_default = 8_192
"""Of transactions: remembered so that each is verified once."""
page_entries_default = 24
"""Leaves and references in a page of the state map: no root depends on it."""
