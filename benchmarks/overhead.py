"""What the mesh itself adds to a turn, and what a repeated turn costs.

    .venv/bin/python -m benchmarks.overhead [--turns 200]

Overhead of a turn: its time to first audio, as the caller saw it, less what the LLM needed for the words
of the first chunk (`llm_connect`, `llm_ttft`, `llm_text`), less the engine's time to its first frame
(`tts_synthesis`). The LLM is the rehearsal model at 150 ms and 50 tokens a second, the engine the
simulated one at 50 ms. A turn is recorded as fast as it can be made, or listened to: its synthesis keeps to
the pace of a player. Also checks that the stages of every turn add up.
"""

import argparse
from typing import Any

from benchmarks.meshes import HEADER, SIMULATED, prompts, row, running_mesh

ENGINE = ("llm_connect", "llm_ttft", "llm_text", "tts_synthesis")


def overhead_ms(turn: dict[str, Any]) -> float:
    """Return what the mesh added to the turn's time to first audio."""
    stages: dict[str, float] = turn["stages"]
    return float(turn["ttfa_ms"]) - sum(stages[stage] for stage in ENGINE)


def check(turns: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the worst difference of stages and TTFA in ms, and the worst share that is unattributed."""
    assert all(turn["outcome"] == "completed" for turn in turns), "a turn failed"
    worst_ms = max(
        abs(sum(turn["stages"].values()) + turn["unattributed_ms"] - turn["ttfa_ms"]) for turn in turns
    )
    share = max(abs(turn["unattributed_ms"]) / turn["ttfa_ms"] for turn in turns)
    return worst_ms, share


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    print(HEADER)
    questions = [f"Why do harbours number {number} silt up?" for number in range(turns)]
    with prompts(questions) as path, running_mesh(VOICEMESH_TTS_VOICES=SIMULATED) as mesh:
        mesh.bench("--turns", "10", "--no-cache")
        for concurrency, pace in ((1, "recorded"), (20, "listened to"), (20, "recorded")):
            count = turns if concurrency > 1 else max(20, turns // 4)
            load = ["--turns", str(count), "--concurrency", str(concurrency), "--prompts", path, "--no-cache"]
            if pace == "listened to":
                load.append("--paced")
            done = mesh.bench(*load)["turns"]
            print(row(f"overhead, {concurrency} at a time, {pace}", [overhead_ms(turn) for turn in done]))
            print(row("  of it held for lookahead", [turn["stages"]["chunk_hold"] for turn in done]))
            print(row("  of it transport", [turn["stages"]["transport"] for turn in done]))
            print(row("  time to first audio", [turn["ttfa_ms"] for turn in done]))
            worst_ms, share = check(done)
            print(f"  worst |sum of stages - TTFA| {worst_ms:.4f} ms; worst unattributed {share:.3%}")
    with running_mesh() as mesh, prompts(["What is a lighthouse for?"]) as path:
        mesh.bench("--turns", "2", "--prompts", path)
        done = mesh.bench("--turns", str(turns), "--prompts", path)["turns"]
        hits = [turn for turn in done if turn["reply_cache"] == "hit"]
        print(row(f"TTFA of a cached turn, {len(hits)} of {turns}", [turn["ttfa_ms"] for turn in hits]))


if __name__ == "__main__":
    main()
