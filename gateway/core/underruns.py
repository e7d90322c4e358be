"""Which stage an underrun is to be blamed on.

The late time is that in which the player was dry: from when it had played all it had, to the frame that
ended it. Each moment of it belongs to the stage that the frame's way was in just then, and the stage that
has most of it is the cause:

    in hand ████████▏ dry ░░░░░░░░░░░░░░░░▏████
    path    ─ llm_text ─────────┤ hold ├┤ synthesis ┤       cause: llm_text

- For the first frame of a chunk, the way is the chunk's own path (`attribution.walk_later`).
- Time that was waited by design is blamed on nobody.
- Audio that was there, and waited for the end of the chunk before it: where that chunk's audio comes from.
- A frame in the middle of a chunk came too slowly from where the chunk's audio comes from: an engine
  (`tts_synthesis`), also one that another turn has asked, or the cache (`audio_cache`).
"""

from gateway.core.attribution import BEHIND, NOBODY, PACED, Step
from gateway.core.report import ChunkAccount, Underrun
from voicemesh.stages import Stage

MAX_UNDERRUNS = 32
"""So many are kept of a chunk; further ones lengthen the last."""


def shares_of(steps: list[Step], from_ns: int, to_ns: int, before: Stage) -> dict[Stage, int]:
    """Return the nanoseconds between `from_ns` and `to_ns` by the stage to blame.

    `before` is where the audio of the chunk before this one comes from. What is missing was by design.
    """
    shares: dict[Stage, int] = {}
    for owner, _, start_ns, end_ns in steps:
        late_ns = min(end_ns, to_ns) - max(start_ns, from_ns)
        if late_ns > 0 and owner not in (PACED, NOBODY):
            stage = before if owner == BEHIND else Stage(owner)
            shares[stage] = shares.get(stage, 0) + late_ns
    return shares


def note(account: ChunkAccount, at_us: int, dry_ns: int, shares: dict[Stage, int]) -> None:
    """Take an underrun of `dry_ns` that a frame of the chunk ended, `at_us` behind the prompt."""
    cause = max(shares, key=shares.__getitem__, default="")
    account.underruns += 1
    account.underrun_us += dry_ns // 1000
    for stage, late_ns in shares.items():
        account.underrun_stages[stage] = account.underrun_stages.get(stage, 0) + late_ns // 1000
    if len(account.underrun_list) < MAX_UNDERRUNS:
        account.underrun_list.append(Underrun(at_us, dry_ns // 1000, cause))
    else:
        last = account.underrun_list[-1]
        account.underrun_list[-1] = Underrun(at_us, last.duration_us + dry_ns // 1000, last.cause)
