"""What the gateway remembers of its turns: within its bounds, each tenant's own, and told as it happens."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.listing import MOST_BYTES, list_turns
from gateway.record import REFUSED, Order, TurnBegun, TurnEnded, TurnEvent, TurnRecord
from gateway.recorder import Recorder
from gateway.settings import GatewaySettings
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime import logs
from voicemesh.runtime.errors import InvalidFieldError, MeshError, OverloadedError, UnknownTurnError
from voicemesh.runtime.telemetry import Telemetry

NOW_US = 1_000_000_000
OUTCOMES = {
    "completed": pb.TURN_OUTCOME_COMPLETED,
    "interrupted": pb.TURN_OUTCOME_INTERRUPTED,
    "failed": pb.TURN_OUTCOME_FAILED,
    REFUSED: pb.TURN_OUTCOME_FAILED,
}


def record(most: int = 1000, most_bytes: int = 1 << 30) -> TurnRecord:
    return TurnRecord(most, most_bytes)


def ended(
    kept: TurnRecord,
    turn_id: str,
    *,
    tenant: str = "",
    outcome: str = "completed",
    ttfa_us: int = 0,
    total_us: int = 0,
    began_us: int = NOW_US,
    text: str = "",
    chunks: int = 0,
) -> None:
    report = pb.TurnReport(
        turn_id=turn_id,
        outcome=OUTCOMES.get(outcome, pb.TURN_OUTCOME_UNSPECIFIED),
        ttfa_us=ttfa_us,
        total_us=total_us,
        began_unix_us=began_us,
        text=text,
        chunks=[pb.ChunkReport(index=index, text=text) for index in range(chunks)],
    )
    kept.end(tenant, report, outcome)


def listed(
    kept: TurnRecord, request: pb.ListTurnsRequest | None = None, tenant: str | None = None
) -> list[pb.ListedTurn]:
    pages = list_turns(kept, tenant, request or pb.ListTurnsRequest(), NOW_US)
    return [turn for page in pages for turn in page.turns]


def ids(turns: list[TurnEnded] | list[pb.ListedTurn]) -> list[str]:
    return [turn.turn_id if isinstance(turn, TurnEnded) else turn.report.turn_id for turn in turns]


def test_the_oldest_goes_first_and_refusals_push_out_none_that_ran():
    kept = record(most=3)
    for number in range(5):
        ended(kept, f"t{number}")
        ended(kept, f"r{number}", outcome=REFUSED)
        ended(kept, f"s{number}", outcome=REFUSED)
    assert ids(kept.recent()) == ["t4", "t3", "t2"]
    assert ids(kept.recent(include_refused=True)) == ["s4", "r4", "t4", "s3", "t3", "t2"]
    assert kept.find("", "t1") is None
    assert kept.find("", "r4") is not None
    assert kept.forgotten


@given(st.lists(st.integers(0, 4000), max_size=40), st.integers(1, 12), st.integers(600, 20_000))
def test_neither_limit_is_ever_passed(sizes, most, most_bytes):
    kept = record(most, most_bytes)
    for number, size in enumerate(sizes):
        ended(kept, f"t{number}", text="x" * size)
        turns = kept.recent(limit=0)
        assert len(turns) <= most
        assert len(turns) == 1 or sum(len(turn.message) + 500 for turn in turns) <= most_bytes
        # What is kept is what came last, without gaps.
        assert ids(turns) == [f"t{number - back}" for back in range(len(turns))]
    assert bool(sizes) == bool(kept.recent())


def test_an_id_that_comes_again_counts_from_then_and_is_kept_once():
    kept = record(most_bytes=2000)
    for number in range(50):
        ended(kept, "same", text="x" * 900)
        ended(kept, "other", outcome=REFUSED)
        assert ids(kept.recent(include_refused=True)) == ["other", "same"], number
    ended(kept, "same", outcome=REFUSED)
    assert ids(kept.recent()) == []
    assert kept.find("", "same") is not None
    assert kept.find("", "") is None


def test_no_tenant_finds_the_turns_of_another():
    kept = record()
    ended(kept, "same", tenant="acme", ttfa_us=1)
    ended(kept, "same", tenant="rival", ttfa_us=2)
    ended(kept, "mine", tenant="")
    found = {tenant: kept.find(tenant, "same") for tenant in ("acme", "rival", "")}
    assert found[""] is None
    assert [turn and turn.ttfa_us for turn in found.values()] == [1, 2, None]
    assert [turn.tenant for turn in listed(kept, tenant="acme")] == ["acme"]
    assert [turn.tenant for turn in listed(kept, tenant="")] == [""]
    assert [turn.tenant for turn in listed(kept)] == ["", "rival", "acme"]
    last = kept.find("acme", "")
    assert last is not None
    assert last.tenant == "acme"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("newest", ["quiet", "fast", "slow", "middle"]),
        ("ttfa", ["slow", "middle", "fast"]),
        ("total", ["fast", "slow", "middle", "quiet"]),
    ],
)
@pytest.mark.parametrize("limit", [0, 1, 2, 10])
def test_the_order_that_was_asked_for(order: Order, expected: list[str], limit: int):
    kept = record()
    ended(kept, "middle", ttfa_us=200, total_us=300)
    ended(kept, "slow", ttfa_us=900, total_us=1000)
    ended(kept, "fast", ttfa_us=100, total_us=9000)
    ended(kept, "quiet", total_us=50)
    numbers = {"newest": "NEWEST", "ttfa": "SLOWEST_TTFA", "total": "SLOWEST_TOTAL"}
    request = pb.ListTurnsRequest(order=pb.TurnOrder.Value(f"TURN_ORDER_{numbers[order]}"), limit=limit)
    assert ids(listed(kept, request)) == expected[: limit or None]
    (page,) = list_turns(kept, None, request, NOW_US)
    assert (page.matched, page.remembered, page.forgotten) == (len(expected), 4, False)


def test_age_and_outcome_choose():
    kept = record()
    ended(kept, "old", began_us=NOW_US - 5_000_000)
    ended(kept, "edge", began_us=NOW_US - 1_000_000)
    ended(kept, "late", began_us=NOW_US - 10, outcome="interrupted")
    ended(kept, "bad", began_us=NOW_US - 5, outcome="failed")
    ended(kept, "refused", began_us=NOW_US - 1, outcome=REFUSED)
    assert ids(listed(kept, pb.ListTurnsRequest(max_age_us=1_000_000))) == ["bad", "late", "edge"]
    failed = [pb.TURN_OUTCOME_FAILED]
    assert ids(listed(kept, pb.ListTurnsRequest(outcomes=failed))) == ["bad"]
    request = pb.ListTurnsRequest(outcomes=failed, include_refused=True)
    assert ids(listed(kept, request)) == ["refused", "bad"]
    (page,) = list_turns(kept, None, pb.ListTurnsRequest(max_age_us=1), NOW_US)
    assert (page.matched, page.remembered, page.oldest_began_unix_us) == (0, 4, NOW_US - 5_000_000)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (pb.ListTurnsRequest(order=99), r"order: 99 is no order"),  # type: ignore[arg-type] # a later version's
        (pb.ListTurnsRequest(outcomes=[1, 0]), r"outcomes\[1\]: 0 is no outcome"),  # type: ignore[list-item] # the same
        (pb.ListTurnsRequest(outcomes=[7]), r"outcomes\[0\]: 7 is no outcome"),  # type: ignore[list-item] # the same
    ],
)
def test_what_there_is_not_is_refused_by_name(request_, said):
    with pytest.raises(InvalidFieldError, match=said):
        listed(record(), request_)


def test_messages_are_small_and_texts_come_when_asked_for():
    kept = record()
    for number in range(30):
        ended(kept, f"t{number}", text="x" * 100_000, chunks=1)
    ended(kept, "huge", text="x" * 3_000_000)
    ended(kept, "many", text="x" * 10, chunks=200_000)
    assert all(not turn.report.text for turn in listed(kept))
    pages = list(list_turns(kept, None, pb.ListTurnsRequest(with_text=True), NOW_US))
    assert len(pages) > 5
    assert all(page.ByteSize() <= MOST_BYTES + 100 for page in pages)
    told = {turn.report.turn_id: turn.report for page in pages for turn in page.turns}
    assert len(told) == 32
    assert len(told["t0"].text) == len(told["t0"].chunks[0].text) == 100_000
    assert (told["huge"].text, len(told["many"].chunks)) == ("", 0)
    assert [page.matched for page in pages] == [32] + [0] * (len(pages) - 1)


def test_a_list_is_settled_when_it_begins_and_leaves_out_what_is_forgotten_meanwhile():
    kept = record(most=30)
    for number in range(30):
        ended(kept, f"t{number}", text="x" * 200_000)
    pages = list_turns(kept, None, pb.ListTurnsRequest(with_text=True), NOW_US)
    seen = ids(list(next(pages).turns))
    assert seen[0] == "t29"
    for number in range(10):
        ended(kept, f"new{number}")
    ended(kept, "t20", text="again")
    seen += [turn.report.turn_id for page in pages for turn in page.turns]
    # t0 to t9 were forgotten, and t20 is another turn by now.
    assert seen == [f"t{number}" for number in range(29, 9, -1) if number != 20]


async def test_who_watches_is_told_of_its_tenants_turns_in_order():
    kept = record()
    with kept.subscribe("acme") as mine, kept.subscribe() as everything:
        for tenant in ("acme", "rival"):
            kept.begin(TurnBegun(tenant, "t", "s", "0" * 32, "voice", "prompt", NOW_US))
            ended(kept, "t", tenant=tenant, ttfa_us=7)
        ended(kept, "draft", tenant="acme", outcome="discarded")
        told: list[TurnEvent] = [await anext(mine) for _ in range(3)]
        assert [(type(event), event.tenant) for event in told] == [
            (TurnBegun, "acme"),
            (TurnEnded, "acme"),
            (TurnEnded, "acme"),
        ]
        assert [(await anext(everything)).tenant for _ in range(5)] == [
            "acme",
            "acme",
            "rival",
            "rival",
            "acme",
        ]
        assert kept.find("acme", "draft") is None
        waiting = asyncio.ensure_future(anext(mine))
        await asyncio.sleep(0)
        ended(kept, "next", tenant="acme")
        assert (await waiting).turn_id == "next"
    ended(kept, "unseen", tenant="acme")
    assert (mine.lost, everything.lost) == (0, 0)
    # Whoever left is told no more: what waits is what it had.
    assert (await anext(everything)).turn_id == "next"


async def test_who_is_slow_loses_the_oldest_and_knows_how_many():
    kept = record()
    with kept.subscribe(most=3) as slow:
        for number in range(10):
            ended(kept, f"t{number}")
        assert [(await anext(slow)).turn_id for _ in range(3)] == ["t7", "t8", "t9"]
        assert slow.lost == 7


def test_what_runs_is_known_until_it_ends():
    kept = record()
    for tenant in ("acme", "rival"):
        kept.begin(TurnBegun(tenant, "t", "", "", "v", "text", NOW_US))
    ended(kept, "t", tenant="rival", outcome=REFUSED)
    assert [turn.tenant for turn in kept.running()] == ["acme", "rival"]
    ended(kept, "t", tenant="rival", outcome="interrupted")
    assert [turn.tenant for turn in kept.running()] == ["acme"]
    assert kept.running("rival") == []


def test_a_turn_of_another_tenant_is_unknown_in_the_words_of_one_that_never_was():
    recorder = Recorder(GatewaySettings(), Telemetry("gateway", None))
    ended(recorder.record, "theirs", tenant="acme")
    said = set()
    for turn_id in ("theirs", "nobody"):
        with pytest.raises(UnknownTurnError, match="of this tenant is remembered here") as raised:
            recorder.find("", turn_id)
        said.add(str(raised.value).replace(turn_id, "X"))
    assert len(said) == 1


@pytest.fixture
def recorder() -> Recorder:
    made = Recorder(GatewaySettings(), Telemetry("gateway"))
    for turn_id, trace_id, tenant in (
        ("3f2a7c00aa", "ab" * 16, ""),
        ("3f2a7c11bb", "cd" * 16, ""),
        ("3f2a7c22cc", "ab" * 16, "acme"),
        ("d" * 10, "cd" * 16, ""),
    ):
        made.record.end(tenant, pb.TurnReport(turn_id=turn_id, trace_id=trace_id), "completed")
    return made


@pytest.mark.parametrize(
    ("tenant", "asked", "found"),
    [
        ("", "3f2a7c00", "3f2a7c00aa"),
        ("", "3f2a7c00aa", "3f2a7c00aa"),
        ("acme", "3f2a7c", "3f2a7c22cc"),
        ("", "ab" * 16, "3f2a7c00aa"),
        ("", "ababab", "3f2a7c00aa"),
        ("acme", "ababab", "3f2a7c22cc"),
    ],
)
def test_a_turn_is_found_by_its_trace_and_by_the_beginning_of_either_id(
    recorder: Recorder, tenant: str, asked: str, found: str
):
    assert recorder.find(tenant, asked).turn_id == found


def test_what_several_turns_begin_with_is_refused_with_their_ids(recorder: Recorder):
    with pytest.raises(InvalidFieldError, match=r"2 turns.*: 3f2a7c11bb, 3f2a7c00aa") as refused:
        recorder.find("", "3f2a7c")
    assert refused.value.field == "turn_id"
    with pytest.raises(InvalidFieldError, match="dddddddddd, 3f2a7c11bb"):
        recorder.find("", "cd" * 16)


@pytest.mark.parametrize(("tenant", "asked"), [("", "3f2a7"), ("acme", "dddddd"), ("", "ffffff")])
def test_too_short_a_beginning_and_that_of_another_tenant_are_unknown(
    recorder: Recorder, tenant: str, asked: str
):
    with pytest.raises(UnknownTurnError):
        recorder.find(tenant, asked)


def test_a_flood_of_refusals_is_one_line_a_second(capsys):
    logs.configure("gateway", level="info", fmt="json")
    now_ns = [0]
    made = Recorder(GatewaySettings(), Telemetry("gateway"), now_ns=lambda: now_ns[0])

    def refuse(error: MeshError) -> None:
        made.refuse("acme", f"t{now_ns[0]}", "", "", error)

    for second in range(3):
        now_ns[0] = second * 1_000_000_000
        for _ in range(500):
            refuse(OverloadedError("full"))
            now_ns[0] += 1_000_000
    refuse(InvalidFieldError("text", "too long"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [(line["reason"], line.get("others", 0)) for line in lines]
    assert told == [("OVERLOADED", 0), ("OVERLOADED", 499), ("OVERLOADED", 499), ("INVALID_FIELD", 0)]
    assert {line["event"] for line in lines} == {"turn refused"}
