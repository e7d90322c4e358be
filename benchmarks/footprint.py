"""How long the mesh takes to be ready, and how much memory each process has.

    .venv/bin/python -m benchmarks.footprint [--rounds 5] [--turns 50]

Resident memory is measured behind `--turns` turns, for each service's own process and for its workers.
"""

import argparse
import statistics

from benchmarks.meshes import running_mesh

MB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=50)
    options = parser.parse_args()
    took_s = []
    for _ in range(options.rounds):
        with running_mesh() as mesh:
            took_s.append(mesh.took_s)
    print(
        f"ready after {statistics.median(took_s):.2f} s (median of {len(took_s)}; "
        f"{min(took_s):.2f} to {max(took_s):.2f})"
    )
    with running_mesh() as mesh:
        mesh.bench("--turns", str(options.turns), "--concurrency", "10")
        for name, (service, *workers) in mesh.processes().items():
            own = service.memory_info().rss / MB
            line = f"{name:<8} {own:6.1f} MB"
            if workers:
                line += (
                    f"  and {len(workers)} workers of {max(w.memory_info().rss for w in workers) / MB:.1f} MB"
                )
            print(line)


if __name__ == "__main__":
    main()
