import itertools
import json
from typing import Any

import pytest

from benchmarks.peers.report import notes_path, read, render, verdicts

LEVEL = {
    "ttfa_p50": 0,
    "ttfa_p95": 0,
    "ttfa_p99": 0,
    "last_p50": 1000,
    "stall_turns": 0,
    "errors": 0,
    "turns": 40,
    "cpu_own_ms": 30,
    "cpu_espeak_ms": 40,
}
TEXTS = ["Yes, Dr. Smith is in.", "No."]


def chunk(text: str, reason: str = "clause") -> dict[str, Any]:
    return {"text": text, "reason": reason, "held_ms": 1, "audio_ms": 900}


def turn(case: int, level: int, cuts: list[int], underruns: int = 0) -> dict[str, Any]:
    text = TEXTS[case]
    edges = [0, *cuts, len(text)]
    spans = list(itertools.pairwise(edges))
    return {
        "turn": f"voicemesh-fast-0-c{level}-0-{case}",
        "case": case,
        "offsets": [[a, b - a] for a, b in spans],
        "report": {
            "stages": {"llm_text": 10.0},
            "underruns": underruns,
            "chunks": [chunk(text[a:b]) for a, b in spans],
        },
    }


@pytest.fixture
def folder(tmp_path):
    def write(ours_ms: float, notes: list[dict[str, Any]], **ours_at_40: float):
        def single(ms: float) -> dict[str, Any]:
            return {"0": {"ttfa": ms}, "1": {"ttfa": ms}}

        peers = {"pipecat": 500.0, "livekit": 560.0, "realtimetts": 440.0}
        at_40 = {
            **LEVEL,
            "ttfa_p50": 800,
            "ttfa_p95": 900,
            "cpu_own_ms": 80,
            "cpu_espeak_ms": 0,
            **ours_at_40,
        }
        results = {
            "meta": {"date": "d", "cores": 2, "load_at_start": [0.1], "params": {"reps": 1}},
            "single": {"fast": {"voicemesh": single(ours_ms)} | {p: single(ms) for p, ms in peers.items()}},
            "sweep": {
                "fast": {"voicemesh": {"1": LEVEL, "40": at_40}}
                | {peer: {"1": LEVEL, "40": {**LEVEL, "ttfa_p50": 900, "ttfa_p95": 950}} for peer in peers}
            },
            "chunks": {"pipecat": {"0": ["Yes, Dr.", "Smith is in."], "1": ["No."]}},
        }
        (tmp_path / "results.json").write_text(json.dumps(results))
        (tmp_path / "llm_server_texts.py").write_text(f"REPLIES = {TEXTS!r}\n")
        notes_path(tmp_path, "main").write_text("".join(json.dumps(note) + "\n" for note in notes))
        return read(tmp_path, "main", own_replies=False)

    return write


CPU = {"cpu_s": {"gateway": 0.01, "worker 0": 0.02, "worker 0 espeak": 0.04, "caller": 0.01}}
GOOD = [turn(0, 1, [4]), turn(1, 1, []), CPU, turn(0, 40, [4]), CPU]


def missed(run) -> list[str]:
    return [verdict.what for verdict in verdicts(run) if not verdict.reached]


def test_all_targets_can_be_reached(folder):
    assert missed(folder(320, GOOD)) == []


def test_a_mean_just_above_a_limit_misses_it(folder):
    # 0.75 of RealtimeTTS is 330, 0.65 of Pipecat 325, of LiveKit 364.
    assert missed(folder(326, GOOD)) == ["fast: mean TTFA at most 0.65 of Pipecat"]
    assert len(missed(folder(365, GOOD))) == 3


def test_underruns_and_false_splits_miss(folder):
    notes = [turn(0, 1, [8]), turn(1, 1, [], underruns=1), CPU]
    assert missed(folder(320, notes)) == ["fast: no underrun, one turn at a time", "no false split"]


def test_a_crowd_is_compared_with_the_best_peer(folder):
    run = folder(320, GOOD, ttfa_p95=951, stall_turns=1, cpu_own_ms=106)
    assert missed(run) == [
        "fast, 40 together: TTFA p95 of the best peer",
        "fast, 40 together: no stall, no error",
        "fast, 40 together: CPU a turn, with espeak, at most 1.5 of RealtimeTTS",
    ]


def test_every_chunk_is_printed_with_its_reason(folder):
    text = render(folder(320, GOOD))
    assert "- `clause`, held 1 ms, 900 ms of audio: Yes," in text
    assert "| Pipecat | 500 | 0.640 | 0 | 1 |" in text
    assert "Our CPU a turn at 40, ms: gateway 10.0, worker 0 20.0, worker 0 espeak 40.0, caller 10.0." in text
