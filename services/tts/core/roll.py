"""The change of a voice's model under way: a new pool takes the place of the old one."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.tts.core.members import MemberState
from services.tts.core.model import ReplicaStartError, VoiceSpec
from services.tts.core.pool import Pool
from services.tts.core.starting import BACKGROUND, Place


class Roll:
    """Warms the pool of a changed voice beside the old one, or replica by replica.

        room for both        old  n n n n . .       . . . .          n  a replica
                             new  . w n n n n       n n n n          w  one that warms
                                        └─ takes the new streams
        room for one only    old  n n n . n n . n . . n n n . . .
                             new  . . . w n n w n n n n n n

    In the second case the old pool keeps one replica until its last stream has ended.

    Args:
        old: What speaks now.
        spec: What the voice is to be.
        place: Where both are.
        make_pool: Makes the new pool.
        wait: Waits until something may have changed.

    """

    def __init__(
        self,
        old: Pool,
        spec: VoiceSpec,
        place: Place,
        make_pool: Callable[[VoiceSpec, Place], Pool],
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self.old = old
        self.coming: Pool | None = None
        self._spec = spec
        self._place = place
        self._make_pool = make_pool
        self._wait = wait

    async def first(self) -> Pool:
        """Return the new pool once it can take streams: with all replicas, or one where room is short.

        Raises:
            ReplicaStartError: The declaration is wrong, or there is no room for it.

        """
        replicas = self._spec.replicas
        if not self._place.fits(self._spec, replicas):
            replicas = 1
            await self._make_room()
        self.coming = self._make_pool(replace(self._spec, replicas=replicas), self._place)
        await self.coming.start(BACKGROUND)
        await self._warm(self.coming, replicas)
        return self.coming

    async def _make_room(self) -> None:
        """Have the old pool give up replicas until one new one has room."""
        while not self._place.fits(self._spec):
            if self._members(self.old) <= 1:
                raise ReplicaStartError(
                    f"{self._spec.device} has no room for a replica of {self._spec.memory_mb} MB beside the "
                    "one that speaks; raise its budget, or remove the voice before you add it anew"
                )
            self.old.replicas.resize(self._members(self.old) - 1)
            await self._left(self.old)

    async def rest(self) -> None:
        """Bring the new pool to its full size, as the old one makes room."""
        assert self.coming is not None
        for replicas in range(self.coming.spec.replicas + 1, self._spec.replicas + 1):
            while not self._place.fits(self._spec):
                if self._members(self.old) > 1:
                    self.old.replicas.resize(self._members(self.old) - 1)
                    await self._left(self.old)
                else:
                    await self._wait()  # for its last stream
            self.coming.adopt(replace(self._spec, replicas=replicas))
            await self._warm(self.coming, replicas)
        self.coming.adopt(self._spec)

    async def _warm(self, pool: Pool, replicas: int) -> None:
        while pool.replicas.count(MemberState.READY) < replicas:
            await self._wait()

    async def _left(self, pool: Pool) -> None:
        while pool.replicas.count(MemberState.LEAVING):
            await self._wait()

    @staticmethod
    def _members(pool: Pool) -> int:
        return len(pool.replicas.members) - pool.replicas.count(MemberState.LEAVING)
