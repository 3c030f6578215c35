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


@pytest.fixture(scope="module")
def module_chain() -> chainkit.TestChain:
    """Blocks: 1 tag key; 2 two attests, one of them refused; 3 empty; 4 amend. Never changed by a test.

    Of a module, not of the session: clients take no checkpoint older than some minutes.
    """
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
def chain(module_chain: chainkit.TestChain) -> chainkit.TestChain:
    """A chain that a test may add to."""
    copy = chainkit.TestChain(module_chain.genesis)
    copy.time_ms = module_chain.time_ms
    copy.store = module_chain.store.snapshot()
    copy.view = chainkit.MapView.open(copy.store)
    copy.tip = module_chain.tip
    copy.logged = set(module_chain.logged)
    copy.log_nodes = dict(module_chain.log_nodes)
    copy.blocks = list(module_chain.blocks)
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
