"""One process of each service is restarted under load, one after another: nobody notices.

`benchmarks/rolling.py` restarts both of each, for as long as one likes.
"""

import asyncio

from tests.support.mesh import SERVICES
from tests.support.rolling import Callers, Restart, doubled_mesh, restart_all

GUARD_S = 300.0
"""Ends a test that hangs."""


async def test_a_rolling_restart_fails_no_turn_and_loses_no_audio() -> None:
    async with asyncio.timeout(GUARD_S), doubled_mesh() as (mesh, client):
        callers = Callers(client)
        await callers.learn()
        restarts: list[Restart] = []

        async def restart() -> None:
            restarts.extend(await restart_all(mesh, SERVICES))

        counts = await callers.run(20, restart)
        assert counts.bad == []
        assert counts.turns >= 20
        assert [(each.name, each.status) for each in restarts] == [(name, 0) for name in SERVICES]
