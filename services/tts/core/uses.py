"""Who speaks with a pool: one that drains is there until its last use has ended."""

from typing import Protocol


class Used(Protocol):
    """What is used."""

    users: int


class Use:
    """A turn or a batch that speaks with a pool."""

    def __init__(self, pool: Used) -> None:
        self._pool: Used | None = pool
        pool.users += 1

    def end(self) -> None:
        """End it; once more means nothing."""
        if self._pool is not None:
            self._pool.users -= 1
            self._pool = None
