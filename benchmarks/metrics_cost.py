"""What metrics cost a turn: CPU of all processes, with them and without, side by side.

    .venv/bin/python -m benchmarks.metrics_cost [--turns 60] [--rounds 6]

Two meshes run at once, one that measures nothing and one that is scraped every fifteen seconds. Rounds
alternate between them, so that whatever else the machine does meets both. Traces are off in both; of each
round the CPU of the five processes and their workers counts, not that of the callers.
"""

import argparse
import statistics
import threading
import urllib.request

from benchmarks.meshes import SIMULATED, RunningMesh, prompts, running_mesh, scraped_mesh

SCRAPE_S = 15.0
_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def cpu_s(mesh: RunningMesh) -> float:
    """Return the CPU time that the mesh has used so far."""
    times = [process.cpu_times() for group in mesh.processes().values() for process in group]
    return sum(each.user + each.system for each in times)


def scrape(mesh: RunningMesh, ended: threading.Event) -> None:
    """Scrape every process until `ended`."""
    while not ended.wait(SCRAPE_S):
        for address in mesh.metrics.values():
            request = urllib.request.Request(f"http://{address}/metrics", headers=_OPENMETRICS)
            with urllib.request.urlopen(request, timeout=SCRAPE_S) as response:
                response.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    questions = [f"Why do harbours number {number} silt up?" for number in range(options.turns)]
    voices = {"VOICEMESH_TTS_VOICES": SIMULATED}
    ended = threading.Event()
    with prompts(questions) as path, running_mesh(**voices) as off, scraped_mesh(**voices) as on:
        load = ["--turns", str(options.turns), "--concurrency", "4", "--prompts", path, "--no-cache"]
        scraper = threading.Thread(target=scrape, args=(on, ended), daemon=True)
        scraper.start()
        ms: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(options.rounds + 1):
            pair = [("off", off), ("on", on)]
            for name, mesh in pair if number % 2 else reversed(pair):
                began_s = cpu_s(mesh)
                mesh.bench(*load)
                if number:  # the first round warms up
                    ms[name].append((cpu_s(mesh) - began_s) * 1000 / options.turns)
        ended.set()
        scraper.join()
    for name, each in ms.items():
        print(f"metrics {name:<3}  median {statistics.median(each):6.2f} ms CPU a turn   {sorted(each)}")
    ratios = [with_them / without for with_them, without in zip(ms["on"], ms["off"], strict=True)]
    print(f"on / off    median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
