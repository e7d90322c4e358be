"""What made slow turns slow, over many turns.

    reports, spans ──> Turn ──> Population ──> analyse ──> Analysis
                               (bounded: the slowest,      (groups by stage and reason,
                                and a sample of all)        what each costs, what to do)

Plain Python: it knows neither gRPC nor the contract, so that whoever has turns can ask it. What the words
mean and how the figures are made is in `docs/explain.md`.
"""

from voicemesh.critical_path.analysis import Analysis, Finding, Part, SlowTurn, analyse
from voicemesh.critical_path.population import Measure, Population
from voicemesh.critical_path.turns import FirstChunk, Turn

__all__ = [
    "Analysis",
    "Finding",
    "FirstChunk",
    "Measure",
    "Part",
    "Population",
    "SlowTurn",
    "Turn",
    "analyse",
]
