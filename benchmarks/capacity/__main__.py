"""What turns take, as a profile for `voicemesh capacity`; and whether its simulation hears what a mesh gives.

    .venv/bin/python -m benchmarks.capacity record espeak --out voicemesh/capacity/profiles/espeak.json
    .venv/bin/python -m benchmarks.capacity check waits
    .venv/bin/python -m benchmarks.capacity check espeak

`record` starts a mesh, asks it without load, then with as many callers as it takes to fill it, and writes a
profile: stages and chunks of the turns that waited for nobody, and CPU time of each process a turn.

`cached` measures turns that the cache gives alone, and puts them into the profile that `--profile` names.

`check` does the same as `record`, then puts 50, 80 and 95% of the capacity on the mesh, open-loop with random
arrivals, and simulates the same arrivals of the same prompts. Both are shown side by side, with how far apart
their p95 are; in brackets between what that lies, with 95% confidence.

    waits    the simulated engine: 3 slots, each held for as long as its text asks. Time is the limit and CPU
             is not, so that other work on the machine changes little
    espeak   espeak-ng: CPU is the limit, shared by the mesh and the load tool. To be run on a quiet machine
    voices   your own: `--voices FILE` (what `VOICEMESH_TTS_VOICES` takes; the first one speaks), with the
             settings of the environment; `--kind gpu --device "1 x L4"` where they run on one, `--slots` as
             the engine has them, and `--full` callers, which must be enough to fill it

On a quiet machine of two cores `record espeak --rounds 20` takes about four minutes. Three minutes each are
enough for a check with `--rounds 3 --seconds 25`; a p95 of so few turns is good to 10% or so, the default of
180 s for each load to 5%. `--profile FILE` leaves out the measuring.

The load tool is `voicemesh bench` on the same machine: its CPU time is a process of the simulation.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.capacity.checking import check
from benchmarks.capacity.measuring import Measuring
from benchmarks.capacity.recording import best_of, record, with_given
from benchmarks.capacity.scenarios import QUESTIONS, Scenario, declared, scenario
from benchmarks.meshes import prompts, running_mesh
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.demand import Load, cpu_s, per_engine
from voicemesh.capacity.profile import CALLER, CPU, SERVICES, WORKER
from voicemesh.cli import machine


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("what", choices=("record", "cached", "check"))
    parser.add_argument("scenario", choices=("waits", "espeak", "voices"))
    parser.add_argument("--voices", type=Path, help="of voices: a file with their declarations")
    parser.add_argument(
        "--kind", choices=profiles.KINDS, default=CPU, help="of voices: what its engine needs"
    )
    parser.add_argument("--device", default="the CPU", help="of voices: what it runs on, in words")
    parser.add_argument(
        "--slots", type=int, default=1, help="of voices: chunks that a replica speaks at once"
    )
    parser.add_argument("--full", type=int, default=24, help="of voices: callers that fill it")
    parser.add_argument("--rounds", type=int, default=8, help="of all prompts, without load")
    parser.add_argument(
        "--fastest",
        type=int,
        default=0,
        help="of each prompt: keep these alone, where other work disturbs; 0: all",
    )
    parser.add_argument("--seconds", type=float, default=180, help="of each load that is checked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the profile goes; of check, what was found as JSON")
    parser.add_argument(
        "--profile",
        help="of check: the profile to simulate with, instead of a new one; of cached: the one to complete",
    )
    chosen = parser.parse_args()
    if chosen.scenario != "voices":
        of = scenario(chosen.scenario)
    elif chosen.voices is None:
        parser.error("voices: name them with --voices FILE")
    else:
        of = declared(chosen.voices, chosen.kind, chosen.device, chosen.full, chosen.slots)
    command = f"python -m benchmarks.capacity record {chosen.scenario} --rounds {chosen.rounds}"
    command += f" --fastest {chosen.fastest}" if chosen.fastest else ""
    if chosen.what == "cached":
        with_cached(of, chosen, parser)
        return
    with (
        prompts(QUESTIONS) as path,
        running_mesh(VOICEMESH_TTS_VOICES=json.dumps(of.voices), **of.environment) as mesh,
    ):
        measuring = Measuring(mesh, path)
        print(machine.busy(machine.machine()) or "the machine had nothing else to do", flush=True)
        if chosen.what == "check" and chosen.profile is not None:
            found = profiles.load(chosen.profile)
            measuring.settle(2 * len(QUESTIONS))
            best = best_of(found)
        else:
            found = record(measuring, of, rounds=chosen.rounds, fastest=chosen.fastest, command=command)
            best = best_of(found)
        load = Load(1.0, 0.0)
        cpu_ms = {name: round(1000 * cpu_s(found, load, name), 1) for name in (*SERVICES, WORKER, CALLER)}
        print(f"CPU of a turn: {cpu_ms}; audio {found.made.audio_s:.1f} s, leases {found.made.lease_s:.2f} s")
        print(f"at most {best:.2f} turns/s; engines alone {per_engine(found):.2f}")
        told: dict[str, Any] = {"profile": found.name, "best_per_s": best, "measured": found.measured}
        if chosen.what == "check":
            told["rows"] = check(measuring, found, best, chosen.seconds, chosen.seed)
            told["profile_json"] = profiles.to_json(found)
    if chosen.what == "record":
        found = with_given(found, of, chosen.rounds, chosen.fastest)
        told = profiles.to_json(found)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(told) + "\n", encoding="utf-8")


def with_cached(of: Scenario, chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure turns that the cache gives, and put them into a profile."""
    if chosen.profile is None or chosen.out is None:
        parser.error("cached: name a profile with --profile, and where it goes with --out")
    found = profiles.load(chosen.profile)
    found = with_given(found, of, chosen.rounds, chosen.fastest)
    chosen.out.write_text(json.dumps(profiles.to_json(found)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
