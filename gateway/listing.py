"""`ListTurns`: which turns a caller is told of, in messages that stay small."""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.record import Order, TurnEnded, TurnRecord
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import InvalidFieldError

MOST_BYTES: Final = 1 << 20
"""Most bytes of the turns in one message."""
_WRAPPING: Final = 100
"""What a turn takes in a message beside its report and its tenant's name."""
_OUTCOMES: Final[dict[int, tuple[str, ...]]] = {
    pb.TURN_OUTCOME_COMPLETED: ("completed",),
    pb.TURN_OUTCOME_INTERRUPTED: ("interrupted",),
    pb.TURN_OUTCOME_FAILED: ("failed", "refused"),
}
_ORDERS: Final[dict[int, Order]] = {
    pb.TURN_ORDER_UNSPECIFIED: "newest",
    pb.TURN_ORDER_NEWEST: "newest",
    pb.TURN_ORDER_SLOWEST_TTFA: "ttfa",
    pb.TURN_ORDER_SLOWEST_TOTAL: "total",
}


def list_turns(
    record: TurnRecord, tenant: str | None, request: pb.ListTurnsRequest, now_us: int
) -> Iterator[pb.ListTurnsResponse]:
    """Give the turns that a request asks for; settled at the first step, forgotten ones left out later.

    Args:
        record: Where they are.
        tenant: Whose they are; None for everybody's.
        request: Which they are.
        now_us: Time of day, in microseconds since 1970.

    Raises:
        InvalidFieldError: The request asks for what there is not.

    """
    order = _ORDERS.get(request.order)
    if order is None:
        raise InvalidFieldError("order", f"{request.order} is no order that this gateway knows")
    outcomes = _outcomes(request.outcomes)
    known = record.of(tenant, include_refused=request.include_refused)
    oldest_us = now_us - request.max_age_us if request.max_age_us else 0
    matching = [
        turn
        for turn in known
        if turn.began_unix_us >= oldest_us
        and (not outcomes or turn.outcome in outcomes)
        and (order != "ttfa" or turn.ttfa_us)
    ]
    page = pb.ListTurnsResponse(
        matched=len(matching),
        remembered=len(known),
        oldest_began_unix_us=min((turn.began_unix_us for turn in known), default=0),
        forgotten=record.forgotten,
    )
    size = 0
    for turn in record.still(record.select(matching, order, request.limit)):
        told = pb.ListedTurn(tenant=turn.tenant, report=_told(turn, with_text=request.with_text))
        added = told.ByteSize()
        if page.turns and size + added > MOST_BYTES:
            yield page
            page, size = pb.ListTurnsResponse(), 0
        page.turns.append(told)
        size += added
    yield page


def _outcomes(wanted: Iterable[int]) -> set[str]:
    names: set[str] = set()
    for place, outcome in enumerate(wanted):
        if outcome not in _OUTCOMES:
            raise InvalidFieldError(f"outcomes[{place}]", f"{outcome} is no outcome of a turn")
        names.update(_OUTCOMES[outcome])
    return names


def _told(turn: TurnEnded, *, with_text: bool) -> pb.TurnReport:
    """Return a turn's report as it fits into one message: without its texts, or without its chunks."""
    report = turn.report()
    if not with_text or len(turn.message) > MOST_BYTES - _WRAPPING:
        report.ClearField("text")
        for chunk in report.chunks:
            chunk.ClearField("text")
        if report.ByteSize() > MOST_BYTES - _WRAPPING:
            report.ClearField("chunks")
    return report
