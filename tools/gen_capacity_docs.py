"""Writes the figures of docs/capacity.md from the profiles that come along; `--check` compares them.

.venv/bin/python tools/gen_capacity_docs.py [--check]
"""

import sys
from pathlib import Path

from voicemesh.capacity import profile as profiles
from voicemesh.capacity.demand import Load, is_stand_in, per_core, per_engine, turn_s
from voicemesh.capacity.profile import CALLER, GPU, SERVICES, WORKER, Profile
from voicemesh.capacity.simulation import percentile

PAGE = Path(__file__).resolve().parent.parent / "docs" / "capacity.md"
BEGIN, END = "<!-- figures: made by tools/gen_capacity_docs.py -->\n", "<!-- end of figures -->\n"
_LOAD = Load(1.0, 0.0)


def figures(found: list[Profile]) -> str:
    """Return what stands between the marks."""
    caveats = [f"- `{profile.name}`: {caveat}." for profile in found for caveat in profile.caveats]
    parts = (*([caveats] if caveats else []), _rates(found), _cpu(found), _curves(found), [_floors(found)])
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _rates(found: list[Profile]) -> list[str]:
    names = (
        "profile",
        "engine",
        "measured",
        "turns/s a core",
        "turns at once a core",
        "turns/s of engines",
        "a GPU",
    )
    lines = [_row(*names), _rule(len(names))]
    for profile in found:
        core, engine = per_core(profile, _LOAD), profile.engine
        stand_in = " (a stand-in)" if is_stand_in(profile) else ""
        lines.append(
            _row(
                f"`{profile.name}`",
                f"{engine.voice}, {engine.workers} x {engine.slots} in a TTS process",
                _where(profile),
                f"{core:.1f}",
                f"{core * turn_s(profile, _LOAD):.0f}",
                f"{per_engine(profile):.2f} a TTS process{stand_in}",
                f"{per_engine(profile) / engine.workers:.2f}" if engine.kind == GPU else "not measured",
            )
        )
    return lines


def _cpu(found: list[Profile]) -> list[str]:
    names = (*SERVICES, WORKER, CALLER)
    lines = [
        "CPU of a turn in ms, of a mesh that is full, by process (`worker`: engines; `caller`: the load",
        "tool, in no sum):",
        "",
        _row("profile", "audio", *names, "all of the mesh"),
        _rule(len(names) + 3),
    ]
    for profile in found:
        for label, kind in ((profile.name, profile.made), (f"{profile.name}, cached", profile.cached)):
            if kind is None:
                continue
            cpu = {name: kind.cpu_ms.get(name, 0.0) for name in names}
            own = sum(ms for name, ms in cpu.items() if name != CALLER)
            cells = (f"{ms:.1f}" for ms in cpu.values())
            lines.append(_row(label, f"{profile.made.audio_s:.1f} s", *cells, f"{own:.0f}"))
    return lines


def _curves(found: list[Profile]) -> list[str]:
    lines = [
        "Time to first audio of a mesh of one of each service, by callers who ask again when answered:",
        "",
        _row("profile", "callers", "turns/s", "p50 ms", "p95 ms", "CPU of a turn, ms"),
        _rule(6),
    ]
    for profile in found:
        for point in (profile.measured["alone"], *profile.measured["curve"]):
            cpu_ms = sum(ms for name, ms in point["cpu_ms"].items() if name != CALLER)
            rates = (f"{point[name]:.{places}f}" for name, places in _COLUMNS.items())
            lines.append(_row(profile.name, f"{point['callers']}", *rates, f"{cpu_ms:.0f}"))
    return lines


_COLUMNS = {"turns_per_s": 1, "ttfa_p50_ms": 0, "ttfa_p95_ms": 0}
"""Of a point of a curve, and the places that are shown."""


def _floors(found: list[Profile]) -> str:
    floors = (f"{percentile(profile.floor_ms, 95):.0f} ms with `{profile.name}`" for profile in found)
    return f"Where nobody waits, p95 is {' and '.join(floors)}."


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}"


def _where(profile: Profile) -> str:
    where = profile.measured["machine"]
    busy = ", **busy with other work**" if profile.busy else ""
    return f"{profile.measured['at']}, {where.get('cpus')} x {where.get('cpu')}{busy}"


def made(page: str) -> str:
    """Return the page with the figures of the profiles."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    found = [profiles.load(name) for name in profiles.shipped()]
    return f"{head}{BEGIN}\n{figures(found)}\n{END}{tail}"


def main() -> None:
    """Write the page, or compare it."""
    page = PAGE.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        sys.exit(f"{PAGE}: has no place for figures")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made(page), encoding="utf-8")
    elif made(page) != page:
        sys.exit(f"{PAGE}: is not what the profiles say; run `make docs-capacity`")


if __name__ == "__main__":
    main()
