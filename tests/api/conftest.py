"""A small certified chain, a fake node over it, an application, and a client that talks to it in memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

import chainkit
import httpx
import pytest
from fakenode import FakeNode, Keys, amend, make_app, make_chain, record


@pytest.fixture(scope="session")
def session_chain() -> chainkit.TestChain:
    """Blocks: 1 tag key; 2 two attests, one of them refused; 3 empty; 4 amend. Never changed by a test."""
    chain = make_chain()
    chain.add(chain.sign(chainkit.tag_key(chain.chain_id)))
    chain.add(
        chain.sign(chainkit.attest(chainkit.group(1, 2, 3), through="2025-03-31")),
        chain.sign(chainkit.attest(chainkit.group(3, 4))),  # 3 exists
    )
    chain.add()
    chain.add(chain.sign(amend(record(2), 1)))
    return chain


@pytest.fixture
def chain(session_chain: chainkit.TestChain) -> chainkit.TestChain:
    """A chain that a test may add to."""
    copy = chainkit.TestChain(session_chain.genesis)
    copy.time_ms = session_chain.time_ms
    copy.store = session_chain.store.snapshot()
    copy.view = chainkit.MapView.open(copy.store)
    copy.tip = session_chain.tip
    copy.logged = set(session_chain.logged)
    copy.log_nodes = dict(session_chain.log_nodes)
    copy.blocks = list(session_chain.blocks)
    return copy


@pytest.fixture
def node(chain: chainkit.TestChain) -> FakeNode:
    return FakeNode(chain)


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture
async def http(node: FakeNode, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """A client with all scopes, in memory."""
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        yield client
