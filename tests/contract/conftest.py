"""A Redis and two cache services in front of it, for the tests that want them."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.cache_harness import Cache, running_cache
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    """Run a Redis of the test's own."""
    async with redis_server() as server:
        yield server


@pytest.fixture
async def cache(unix_address: str, redis: RedisServer) -> AsyncIterator[Cache]:
    """Run a cache service with that Redis."""
    async with running_cache(unix_address, redis_url=redis.url) as running:
        yield running


@pytest.fixture
async def second(unix_address: str, redis: RedisServer) -> AsyncIterator[Cache]:
    """Run another one with the same Redis."""
    async with running_cache(f"{unix_address}-2", redis_url=redis.url) as running:
        yield running
