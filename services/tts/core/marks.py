"""The marks of memory above which a replica is recycled."""

from typing import Final

from services.tts.core.members import Member
from services.tts.core.model import VoiceSpec
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_MB: Final = 2**20
_SETTLED_NS: Final = 60_000_000_000
_WAIT_FIRST_NS: Final = 10_000_000_000
_WAIT_MOST_NS: Final = 600_000_000_000


class Marks:
    """Whether a member of one pool is above a mark and may be recycled for it.

    A replica that is above its mark within a minute of its start was declared too tightly, rather
    than leaked: recycling it brings nothing, so the next one waits for 10 s, then twice as long each
    time, up to 10 minutes.
    """

    def __init__(self, spec: VoiceSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._wait_ns = 0
        self._not_before_ns = 0

    def adopt(self, spec: VoiceSpec) -> None:
        """Take other marks, which have no history yet."""
        self._spec = spec
        self._wait_ns = self._not_before_ns = 0

    def above(self, member: Member) -> str:
        """Return which mark the member is above, in words; "" where none, or where it must wait."""
        if member.beat is None or self._clock.now_ns() < self._not_before_ns:
            return ""
        for name, held, mark_mb in (
            ("resident", member.beat.resident_bytes, self._spec.max_resident_mb),
            ("device", member.beat.device_bytes, self._spec.max_device_mb),
        ):
            if mark_mb and held > mark_mb * _MB:
                return f"{held // _MB} MB of {name} memory; its mark is max_{name}_mb = {mark_mb}"
        return ""

    def recycling(self, member: Member) -> None:
        """Note that a member is recycled."""
        if self._clock.now_ns() - member.ready_ns >= _SETTLED_NS:
            self._wait_ns = 0
            return
        if self._wait_ns:
            _log.warning("a mark of memory is lower than what the voice needs", voice=self._spec.name)
        self.put_off()

    def put_off(self) -> None:
        """Have the next one wait, longer each time."""
        self._wait_ns = min(max(2 * self._wait_ns, _WAIT_FIRST_NS), _WAIT_MOST_NS)
        self._not_before_ns = self._clock.now_ns() + self._wait_ns
