"""The turns that ended lately, as the gateway remembers them."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import grpc

from voicemesh.client.conversation import end_call
from voicemesh.client.errors import from_rpc_error
from voicemesh.client.gateways import Gateway
from voicemesh.client.names import OUTCOMES
from voicemesh.client.report import TurnReport, report_from_proto
from voicemesh.gateway.v1 import gateway_pb2

ORDERS: Final = {
    "newest": gateway_pb2.TURN_ORDER_NEWEST,
    "ttfa": gateway_pb2.TURN_ORDER_SLOWEST_TTFA,
    "total": gateway_pb2.TURN_ORDER_SLOWEST_TOTAL,
}
_OUTCOME_NUMBERS: Final = {
    name: gateway_pb2.TurnOutcome.ValueType(number) for number, name in OUTCOMES.items() if name
}


@dataclass(frozen=True, kw_only=True)
class ListedTurn:
    """A turn that ended.

    Attributes:
        tenant: Whose it is; "" for the tenant without a name.
        report: Its account, with the times that the gateway saw.

    """

    tenant: str
    report: TurnReport


class TurnList:
    """Turns that ended lately; iterate over it, once. Raises `VoiceMeshError` then.

    Attributes:
        matched: How many match, without the limit. This and what follows is known with the first turn, or
            the end.
        remembered: How many of the tenant's the gateway remembers at all.
        oldest_began_unix_us: When the oldest of them began, in microseconds since 1970; 0 for none.
        forgotten: True where the gateway has forgotten older ones.

    """

    def __init__(self, begin: Callable[[], Any], gateway: Gateway) -> None:
        self.matched = 0
        self.remembered = 0
        self.oldest_began_unix_us = 0
        self.forgotten = False
        self._begin = begin
        self._gateway = gateway

    async def __aiter__(self) -> AsyncIterator[ListedTurn]:
        """Ask, and give the turns as they come."""
        call = self._begin()
        first = True
        try:
            async for page in call:
                if first:
                    first = False
                    self.matched = page.matched
                    self.remembered = page.remembered
                    self.oldest_began_unix_us = page.oldest_began_unix_us
                    self.forgotten = page.forgotten
                for turn in page.turns:
                    yield ListedTurn(tenant=turn.tenant, report=report_from_proto(turn.report))
        except grpc.aio.AioRpcError as error:
            raise await self._gateway.explained(from_rpc_error(error, self._gateway.address)) from None
        finally:
            await end_call(call)


def request_for(
    *,
    max_age_s: float,
    outcomes: Collection[str],
    order: str,
    limit: int,
    with_text: bool,
    include_refused: bool,
    all_tenants: bool,
) -> gateway_pb2.ListTurnsRequest:
    """Return the request; raises ValueError for what cannot be."""
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is none of {', '.join(ORDERS)}")
    for outcome in outcomes:
        if outcome not in _OUTCOME_NUMBERS:
            raise ValueError(f"outcomes: {outcome!r} is none of {', '.join(_OUTCOME_NUMBERS)}")
    if not 0 <= limit < 1 << 32:
        raise ValueError(f"limit: {limit} is not between 0 and {(1 << 32) - 1}")
    if not 0 <= max_age_s < 1e12:
        raise ValueError(f"max_age_s: {max_age_s} is not between 0 and 1e12")
    return gateway_pb2.ListTurnsRequest(
        # Less than a microsecond is no "0: all".
        max_age_us=max(round(max_age_s * 1e6), 1) if max_age_s else 0,
        outcomes=[_OUTCOME_NUMBERS[outcome] for outcome in outcomes],
        order=ORDERS[order],
        limit=limit,
        with_text=with_text,
        include_refused=include_refused,
        all_tenants=all_tenants,
    )
