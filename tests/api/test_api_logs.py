"""Logs and metrics of requests: enough to follow one, nothing of what was in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fakenode import FakeNode, Keys, make_app, record

from taxledger.ledger.errors import InvariantError
from taxledger.nodes.logs import configure_logs, get_logger
from taxledger.nodes.metrics import NodeMetrics


@pytest.fixture
def lines() -> Iterator[Any]:
    """Call it for the lines logged so far."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    configure_logs("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before
    structlog.reset_defaults()


async def test_a_request_is_one_line_without_anybodys_data(lines: Any, node: FakeNode, keys: Keys) -> None:
    metrics = NodeMetrics()
    transport = httpx.ASGITransport(app=make_app(node, keys, observer=metrics, metrics=metrics.exposition))
    async with httpx.AsyncClient(transport=transport, base_url="http://node", headers=keys.header()) as http:
        asked = {"subject": "cumcm:E14", "issuer": 1, "kinds": [5], "from": "2017-01", "to": "2019-12"}
        await http.post("/v1/dossiers?q=E14", json=asked, headers={"X-Request-Id": "request-0001"})
        await http.get(f"/v1/state/{record(1).hex()}")
        await http.get("/v1/E14")
        node.failure = ValueError("E14 and its fields")
        await http.get("/v1/status")
        node.failure = None
        exposition = (await http.get("/metrics")).text
    written = lines()
    text = json.dumps(written)
    for hidden in ("E14", record(1).hex(), keys.tokens["all"], "2017-01"):
        assert hidden not in text
    assert [(line["event"], line.get("route"), line.get("status")) for line in written] == [
        ("request", "/v1/dossiers", 200),
        ("request", "/v1/state/{hexkey}", 200),
        ("request", "(none)", 404),
        ("request failed", None, None),
        ("request", "/v1/status", 500),
        ("request", "/metrics", 200),
    ]
    assert written[0]["request_id"] == "request-0001"
    assert written[0]["api_key"] == keys.tokens["all"].split("_")[1]
    assert written[3]["request_id"] == written[4]["request_id"] != "request-0001"
    assert (written[3]["error"], written[3]["level"]) == ("ValueError", "error")
    assert "fakenode.py" in str(written[3]["frames"])
    for line in written:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
    for sample in (
        'taxledger_http_requests_total{method="POST",route="/v1/dossiers",status="200"} 1.0',
        'taxledger_http_requests_total{method="GET",route="(none)",status="404"} 1.0',
        'taxledger_http_requests_total{method="GET",route="/v1/status",status="500"} 1.0',
    ):
        assert sample in exposition
    assert "E14" not in exposition


def test_values_that_may_be_data_are_withheld(lines: Any) -> None:
    log = get_logger("test")
    log.info(
        "x", subject="E14", row={"net": 5}, raw=b"123", nested={"secret": "s", "n": b"12"}, long="y" * 999
    )
    (line,) = lines()
    assert (line["subject"], line["row"], line["raw"]) == ("withheld",) * 3
    assert line["nested"] == {"secret": "withheld", "n": "2 bytes"}
    assert len(line["long"]) == 401
    assert (line["logger"], line["level"]) == ("taxledger.test", "info")


def test_an_exception_shows_its_places_not_its_message(lines: Any) -> None:
    try:
        try:
            raise KeyError("E14")
        except KeyError as error:
            raise ValueError("E14 again") from error
    except ValueError:
        get_logger("test").exception("failed")
        logging.getLogger("some.library").exception("failed\nE14")
    for line in lines():
        assert [each["type"] for each in line["exception"]] == ["ValueError", "KeyError"]
        assert "test_api_logs.py" in line["exception"][0]["frames"][0]
        assert "E14" not in json.dumps(line)
    try:
        raise InvariantError("log and header disagree")
    except InvariantError:
        get_logger("test").exception("fatal")
    assert lines()[-1]["exception"][0]["message"] == "log and header disagree"


async def test_asyncio_complaints_do_not_quote(lines: Any) -> None:
    async def fail() -> None:
        raise ValueError("E14")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    context = {"message": "Task exception was never retrieved", "exception": task.exception(), "task": task}
    asyncio.get_running_loop().default_exception_handler(context)
    (line,) = lines()
    assert line["event"] == "Task exception was never retrieved"
    assert "E14" not in json.dumps(line)


async def test_metrics_of_a_node(node: FakeNode) -> None:
    now = [0.0]
    metrics, other = NodeMetrics(lambda: now[0]), NodeMetrics()
    value = metrics.registry.get_sample_value
    assert value("taxledger_cosignature_age_seconds") == -1
    status = await node.status()
    metrics.observe(status)
    assert status.cosigned_time_ms is not None
    now[0] = status.cosigned_time_ms / 1_000 + 7
    metrics.count_results(["ok", "ok", "record_exists"])
    metrics.observe_timing("vote", 0.002)
    metrics.observe_timing("commit", 0.03)
    metrics.observe_pages(hits=5, misses=2, cached_bytes=4_096)
    metrics.observe_request(method="BREW", route="(none)", status=405, seconds=0.001)
    expected = {
        "taxledger_height": 4.0,
        "taxledger_log_size_leaves": status.size,
        "taxledger_cosignature_age_seconds": 7.0,
        "taxledger_writes_ok": 1.0,
        "taxledger_ready": 1.0,
        "taxledger_uncertified_blocks": 0.0,
        "taxledger_vote_seconds_count": 1.0,
        "taxledger_commit_seconds_sum": 0.03,
        "taxledger_page_cache_bytes": 4_096.0,
    }
    assert {name: value(name) for name in expected} == expected
    assert value("taxledger_transactions_total", {"result": "ok"}) == 2
    assert value("taxledger_page_cache_reads_total", {"outcome": "miss"}) == 2
    labels = {"method": "other", "route": "(none)", "status": "405"}
    assert value("taxledger_http_requests_total", labels) == 1
    assert other.registry.get_sample_value("taxledger_height") == 0
