"""What mutual TLS costs a turn: time to first audio, and CPU of all processes, with it and without.

    .venv/bin/python -m benchmarks.tls [--turns 40] [--rounds 6]

Two meshes run at once, one in plain text and one with `voicemesh up --tls`: every connection between its
processes and the callers' are encrypted. Rounds alternate between them, one caller, without the cache.
"""

import argparse
import statistics

from benchmarks.meshes import SIMULATED, RunningMesh, prompts, running_mesh, tls_mesh
from benchmarks.metrics_cost import cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    questions = [f"Why do harbours number {number} silt up?" for number in range(options.turns)]
    voices = {"VOICEMESH_TTS_VOICES": SIMULATED}
    ttfa_ms: dict[str, list[float]] = {"plain": [], "tls": []}
    cpu_ms: dict[str, list[float]] = {"plain": [], "tls": []}
    with prompts(questions) as path, running_mesh(**voices) as plain, tls_mesh(**voices) as tls:
        load = ["--turns", str(options.turns), "--concurrency", "1", "--prompts", path, "--no-cache"]
        own: dict[str, list[str]] = {"plain": [], "tls": ["--tls-ca", f"{tls.certificates}/ca.pem"]}
        for number in range(options.rounds + 1):
            pair: list[tuple[str, RunningMesh]] = [("plain", plain), ("tls", tls)]
            for name, mesh in pair if number % 2 else reversed(pair):
                began_s = cpu_s(mesh)
                result = mesh.bench(*load, *own[name])
                if number:  # the first round warms up
                    cpu_ms[name].append((cpu_s(mesh) - began_s) * 1000 / options.turns)
                    ttfa_ms[name].append(result["summary"]["ttfa_ms"]["p50"])
    for what, figures in (("TTFA p50, ms", ttfa_ms), ("CPU a turn, ms", cpu_ms)):
        ratios = [
            with_tls / without for with_tls, without in zip(figures["tls"], figures["plain"], strict=True)
        ]
        print(
            f"{what:<15} plain {statistics.median(figures['plain']):7.2f}   "
            f"tls {statistics.median(figures['tls']):7.2f}   "
            f"tls / plain {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
