"""Exported traces: every form that exporters write, and whatever is broken in them, in bounded memory."""

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.critical_path.exports import request, span
from tests.unit.critical_path.populations import noisy, population, turn
from voicemesh.critical_path import FirstChunk, Turn, files, traces
from voicemesh.critical_path.files import UnreadableError, distinct, read_turns
from voicemesh.runtime import trace_names

TURNS = [
    turn(
        "one",
        trace_id="0" * 31 + "a",
        tenant="acme",
        began_unix_us=1_763_000_000_000_000,
        first=FirstChunk("sentence", "redis", 812.5),
        degraded=("cache", "voice"),
        retried=True,
        failed_over=True,
        underruns=2,
        underrun_ms=31.5,
        underrun_stages={"llm_text": 20.0, "tts_synthesis": 11.5},
    ),
    turn("two", {"unattributed": -0.25}, own_words=True, first=None, hops={}, trace_id="0" * 31 + "b"),
    turn("three", outcome="failed", first=FirstChunk(""), trace_id="c" * 32, provider=""),
]


def read(data: bytes) -> tuple[list[Turn], list[tuple[int, str]]]:
    complaints: list[tuple[int, str]] = []
    turns = list(read_turns(io.BytesIO(data), lambda line, problem: complaints.append((line, problem))))
    return turns, complaints


def lines(turns: list[Turn]) -> bytes:
    return b"".join(json.dumps(request(span(one))).encode() + b"\n" for one in turns)


WHOLE = request(*(span(one) for one in TURNS))
FORMS = {
    "a line each": lines(TURNS),
    "no newline at the end": lines(TURNS).rstrip(b"\n"),
    "Windows": lines(TURNS).replace(b"\n", b"\r\n"),
    "empty lines": b"\n\n" + lines(TURNS).replace(b"\n", b"\n\n"),
    "one line": json.dumps(WHOLE).encode(),
    "a document": json.dumps(WHOLE, indent=2).encode(),
    "a document with a BOM": b"\xef\xbb\xbf" + json.dumps(WHOLE, indent=1).encode(),
    "gzip": gzip.compress(lines(TURNS)),
    "gzip in parts": b"".join(gzip.compress(lines([one])) for one in TURNS),
    "a document in gzip": gzip.compress(json.dumps(WHOLE, indent=2).encode()),
    "with metrics and logs": b'{"resourceMetrics": []}\n' + lines(TURNS) + b'{"resourceLogs": [{}]}\n',
    "with other spans": json.dumps(
        request({"name": "chat"}, {"name": "turn"}, {}, *(span(t) for t in TURNS))
    ).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form):
    assert read(FORMS[form]) == (TURNS, [])


def test_names_are_those_that_the_mesh_writes():
    for name in vars(traces):
        if name.isupper() and name[0] != "_" and name not in ("HOP_MS", "STAGE_MS", "STAGES"):
            assert getattr(traces, name) == getattr(trace_names, name), name
    for stage, name in traces.STAGE_MS.items():
        assert name == trace_names.stage_ms(stage)
    assert f"{traces.HOP_MS}llm_ms" == trace_names.hop_ms("llm")


BROKEN = {
    b"{oops}": (2, "is no JSON: "),
    b"\xff": (2, "is not valid UTF-8 at byte 1"),
    b"[]": (2, "is no JSON object"),
    b"7": (2, "is no JSON object"),
    b'{"spans": []}': (2, 'has no "resourceSpans"'),
    b'{"resourceSpans": {}}': (2, '"resourceSpans" is no array'),
    b'{"resourceSpans": [7]}': (2, "'7' is no object"),
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}': (2, '"spans" holds what is no object'),
    b"[" * 100_000: (2, "is no JSON: "),
    b"1" * 10_000: (2, "is no JSON: "),
    json.dumps(request(span(TURNS[0], voicemesh__ttfa_ms="soon"))).encode(): (
        2,
        "a turn is left out: voicemesh.ttfa_ms: 'soon' is no duration",
    ),
    json.dumps(request(span(TURNS[0], voicemesh__stage__llm_ttft_ms=-1.0))).encode(): (
        2,
        "'-1.0' is no duration",
    ),
    json.dumps(request(span(TURNS[0], voicemesh__ttfa_ms=float("nan")))).encode(): (
        2,
        "'nan' is no duration",
    ),
    json.dumps(request(span(TURNS[0], voicemesh__total_ms=1e300))).encode(): (2, "'1e+300' is no duration"),
    json.dumps(request({**span(TURNS[0]), "startTimeUnixNano": "-7"})).encode(): (
        2,
        "startTimeUnixNano: '-7' is no time in nanoseconds",
    ),
    json.dumps(request({**span(TURNS[0]), "attributes": 7})).encode(): None,
    json.dumps(request({**span(TURNS[0]), "events": "x"})).encode(): (2, '"events" is no array'),
}


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_named_and_left_out(line):
    turns, complaints = read(lines(TURNS[:1]) + line + b"\n" + lines(TURNS[1:]))
    assert turns == TURNS
    expected = BROKEN[line]
    if expected is None:
        expected = (2, '"attributes" is no array')
    ((number, problem),) = complaints
    assert number == expected[0]
    assert expected[1] in problem


def test_a_batch_that_broke_off_costs_no_other():
    whole = lines(TURNS)
    first_end = whole.index(b"\n")
    # The exporter died in the middle of a line, and began anew behind it.
    turns, complaints = read(whole[: first_end - 40] + b"\n" + whole)
    assert (turns, [number for number, _ in complaints]) == (TURNS, [1])
    turns, complaints = read(whole[:-40])
    assert (turns, [number for number, _ in complaints]) == (TURNS[:-1], [3])


def test_a_compressed_file_that_is_still_being_written_is_read_as_far_as_it_goes():
    cut = gzip.compress(lines(TURNS) * 2000)[:-2000]
    turns, complaints = read(cut)
    assert len(turns) > len(TURNS) * 1000
    assert turns[: len(TURNS)] == TURNS
    ((number, problem),) = complaints
    assert number == len(turns) + 1
    assert problem.startswith("cannot be read: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(json.dumps(WHOLE, indent=2).encode())[:-20], r"line \d+: cannot be read: "),
        (gzip.compress(lines(TURNS))[:6], "line 1: cannot be read: "),
        (json.dumps(WHOLE, indent=2).encode()[:-20], r"line \d+: is no JSON: "),
        (json.dumps(WHOLE, indent=2).encode().replace(b'"turn"', b'"\xff"'), "is not valid UTF-8"),
    ],
    ids=["compressed data", "the header of compressed data", "a document", "a character"],
)
def test_a_file_that_ends_too_early_is_refused_with_the_place(data, said):
    with pytest.raises(UnreadableError, match=said):
        read(data)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    with pytest.raises(UnreadableError, match="line 1: is longer than"):
        read(b"{" + b" " * 2000)
    with pytest.raises(UnreadableError, match=r"line \d+: a document over several lines is larger than"):
        read(b"{\n" + b" \n" * 2000)


def test_memory_does_not_grow_with_the_file():
    made = noisy(50)

    def endless(count: int) -> Iterator[bytes]:
        for number in range(count):
            one = replace(made[number % 50], turn_id=f"t{number}", began_unix_us=number + 1)
            yield json.dumps(request(span(one))).encode() + b"\n"

    def peak(count: int) -> int:
        stream = io.BufferedReader(_Stream(endless(count)))
        tracemalloc.start()
        try:
            taken = population([], slowest=20, sample=100)
            taken.extend(read_turns(stream, _complain))
            assert taken.measured == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(300)
    assert peak(1500) < small * 1.3


def _complain(line: int, problem: str) -> None:
    raise AssertionError(f"line {line}: {problem}")


class _Stream(io.RawIOBase):
    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._parts, b"")
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def test_a_batch_that_was_sent_twice_counts_once():
    turns, _ = read(lines(TURNS) + lines(TURNS))
    assert list(distinct(turns)) == TURNS


def test_a_span_of_an_earlier_version_has_its_whole_time_from_its_ends():
    old = span(TURNS[0], voicemesh__head_start_ms=250.0)
    old["attributes"] = [pair for pair in old["attributes"] if pair["key"] != traces.TOTAL_MS]
    (found,), complaints = read(json.dumps(request(old)).encode())
    assert not complaints
    assert found.total_ms == pytest.approx(TURNS[0].total_ms - 250)
    assert found.began_unix_us == TURNS[0].began_unix_us + 250_000


@pytest.mark.parametrize("outcome", ["refused", "discarded", "", 7, ["completed"]])
def test_turns_that_did_not_run_are_none(outcome):
    assert read(json.dumps(request(span(TURNS[0], voicemesh__outcome=outcome))).encode()) == ([], [])


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    json_values,
    st.sampled_from(
        [
            "resourceSpans",
            "scopeSpans",
            "spans",
            "span",
            "attributes",
            "events",
            "value",
            "name",
            "startTimeUnixNano",
        ]
    ),
)
def test_whatever_stands_in_a_place_the_rest_is_read(anything, place):
    odd: Any = span(TURNS[0])
    if place == "span":
        odd = anything
    elif place == "value":
        odd["attributes"][4]["value"] = anything
    else:
        odd[place] = anything
    export: Any = request(odd)
    if place == "resourceSpans":
        export = {"resourceSpans": anything}
    elif place in ("scopeSpans", "spans"):
        holder = export["resourceSpans"][0]
        (holder if place == "scopeSpans" else holder["scopeSpans"][0])[place] = anything
    turns, complaints = read(json.dumps(export).encode() + b"\n" + lines(TURNS[1:]))
    assert turns[-2:] == TURNS[1:]
    assert len(complaints) <= 1
