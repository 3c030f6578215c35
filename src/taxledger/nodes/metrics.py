"""Prometheus metrics of one node, in a registry of their own, so that several nodes fit in one process.

Labels have few values by construction: result names, route templates, statuses, names of peers. Never a key or
subject.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from taxledger.api.reader import NodeStatus

__all__ = ["IdentityMetrics", "NodeMetrics"]

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class NodeMetrics:
    """What a node counts. All methods are cheap and may be called from any thread.

    Args:
        clock: seconds since 1970, for ages.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._cosigned_s: float | None = None
        made = self._gauge
        self._height = made("height", "Newest certified height")
        self._size = made("log_size_leaves", "Leaves of the log at that height")
        self._uncertified = made("uncertified_blocks", "Blocks decided and not yet certified")
        self._ready = made("ready", "1 when the node serves answers")
        self._writing = made("writes_ok", "1 when writes go on, 0 while they wait")
        self._certified_time = made("certified_time_seconds", "Block time of the newest certified block")
        self._age = made("cosignature_age_seconds", "Age of the q-th newest co-signature served; -1: none")
        self._age.set_function(self._age_s)
        self._cache_bytes = made("page_cache_bytes", "Bytes of the state map's page cache")
        self._cache = Counter(
            "taxledger_page_cache_reads_total", "Reads of pages", ["outcome"], registry=self.registry
        )
        self._results = Counter(
            "taxledger_transactions_total", "Certified transactions", ["result"], registry=self.registry
        )
        self._misbehaviour = Counter(
            "taxledger_engine_misbehaviour_total",
            "Votes for two blocks at once, as the ordering engine's evidence names their signer",
            ["member"],
            registry=self.registry,
        )
        self._vote = self._histogram("vote_seconds", "From a proposal's arrival to its vote")
        self._commit = self._histogram(
            "commit_seconds", "From a proposal's making or arrival to its certificate"
        )
        self._requests = Counter(
            "taxledger_http_requests_total",
            "Requests to the API",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "taxledger_http_request_seconds",
            "Time to answer a request",
            ["route"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"taxledger_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"taxledger_{name}", text, buckets=_LATENCY_S, registry=self.registry)

    def _age_s(self) -> float:
        return -1.0 if self._cosigned_s is None else max(0.0, self._clock() - self._cosigned_s)

    def observe(self, status: NodeStatus) -> None:
        """Where the node stands now."""
        self._height.set(status.height)
        self._size.set(status.size)
        self._uncertified.set(status.uncertified_blocks)
        self._ready.set(status.ready)
        self._writing.set(status.writes == "ok")
        self._certified_time.set(status.certified_time_ms / 1_000)
        self._cosigned_s = None if status.cosigned_time_ms is None else status.cosigned_time_ms / 1_000

    def count_results(self, names: Iterable[str]) -> None:
        """Transactions of a block that was certified just now, by the name of their result."""
        for name in names:
            self._results.labels(name).inc()

    def count_misbehaviour(self, name: str) -> None:
        """The ordering engine brought evidence against this member."""
        self._misbehaviour.labels(name).inc()

    def observe_timing(self, what: str, seconds: float) -> None:
        """How long a part of a round took: ``vote`` or ``commit``."""
        {"vote": self._vote, "commit": self._commit}[what].observe(seconds)

    def observe_pages(self, *, hits: int, misses: int, cached_bytes: int) -> None:
        """Reads of pages since the last call, and how large the cache is."""
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)
        self._cache_bytes.set(cached_bytes)

    def observe_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered; ``route`` is a template, so that labels stay few."""
        known = method if method in ("GET", "POST", "HEAD") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    async def exposition(self) -> tuple[bytes, str]:
        """The body of ``/metrics`` and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class IdentityMetrics:
    """What runs out: this node's certificate, its member's authority, the certificates of its peers.

    Args:
        registry: of the node's metrics.
        clock: seconds since 1970.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

        def left(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"taxledger_{name}_expires_seconds", text, labels, registry=registry)

        self._certificate = left("tls_certificate", "Seconds until this node's certificate expires")
        self._authority = left("tls_authority", "Seconds until the member's TLS authority expires")
        self._peers = left(
            "peer_certificate", "Seconds until the certificate last seen of a peer expires", "peer"
        )
        self._renews = Gauge(
            "taxledger_tls_certificate_renews",
            "1 when this node renews its certificate itself",
            registry=registry,
        )
        self._renewals = Counter(
            "taxledger_tls_renewals_total",
            "Renewals of the node's certificate",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("renewed", "failed"):
            self._renewals.labels(outcome)

    def count_renewal(self, outcome: str) -> None:
        """``renewed`` or ``failed``."""
        self._renewals.labels(outcome).inc()

    def observe_own(self, *, certificate_end_s: int | None, authority_end_s: int, renews: bool) -> None:
        """When our own expire, in seconds since 1970; None without a certificate."""
        end_s = certificate_end_s or 0
        self._certificate.set_function(lambda: end_s - self._clock())
        self._authority.set_function(lambda: authority_end_s - self._clock())
        self._renews.set(renews)

    def observe_peer(self, name: str, end_s: int) -> None:
        """When the certificate expires that a peer's node showed last."""
        self._peers.labels(name).set_function(lambda: end_s - self._clock())
