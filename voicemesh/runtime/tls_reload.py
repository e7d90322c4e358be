"""Certificates that are looked at again: what is in the files now, as long as it is good.

    files ── every few seconds ── other content? ──┬── good ── taken, version + 1 ── subscribers told
                                                   └── bad ─── refused, said once; the old ones stay

Content is compared, not times: Kubernetes swaps a symbolic link, whose target keeps its time.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.instruments import Instrument, Kind
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.tls_files import Material, TlsFiles, check, readable_by_others

_SETS: Final = ("mesh", "edge")
_SET: Final = "voicemesh.tls.set"
REMAINING: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tls.certificate.remaining",
    unit="s",
    description="Time until the certificate in use expires; below zero where it has.",
    labels={_SET: _SETS},
)
RELOADS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.tls.reloads",
    unit="{reload}",
    description="Changes of certificate files that were taken, or refused as something is wrong in them.",
    labels={_SET: _SETS, "voicemesh.tls.outcome": ("taken", "refused")},
)

_log = get_logger(__name__)


class Certificates:
    """One set of certificates of a process.

    Args:
        name: "mesh" or "edge".
        files: Where they are.
        every_s: How often they are looked at.
        metrics: Of the process.
        now_s: The time of day, in seconds since 1970.

    Attributes:
        files: As given.
        current: What is in use.
        version: Grows with every change that was taken.

    Raises SettingsError for files that no process can begin with.

    """

    def __init__(
        self,
        name: str,
        files: TlsFiles,
        *,
        every_s: float = 5.0,
        metrics: Metrics | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        metrics = metrics or Metrics.off()
        self.files = files
        self.version = 1
        self._name = name
        self._every_s = every_s
        self._now_s = now_s
        self._seen = files.contents()
        self.current: Material = check(files, self._seen, now_s())
        self._reloads = metrics.counter(RELOADS)
        self._told: list[Callable[[], None]] = []
        self._makers: list[Callable[[Material], Callable[[], None]]] = []
        self._warned_of = 0
        self._task: asyncio.Task[None] | None = None
        if files.cert:
            metrics.observe(REMAINING, lambda: [(self.current.ends_s - self._now_s(), {_SET: name})])
            if readable_by_others(files.key):
                _log.warning(
                    "others may read a private key",
                    variable=files.key_variable,
                    file=files.key,
                    hint="chmod 600, or defaultMode: 0440 of a Kubernetes secret",
                )
        self._warn_of_expiry()

    def subscribe(self, told: Callable[[], None]) -> None:
        """Have `told` called, on the event loop, whenever other certificates are in use."""
        self._told.append(told)

    def require(self, make: Callable[[Material], Callable[[], None]]) -> None:
        """Have `make` try other certificates before they are taken; what it returns is called once they are.

        It raises SettingsError for what cannot be used: nothing is taken then.
        """
        self._makers.append(make)

    def start(self) -> None:
        """Look at the files from now on."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"certificates {self._name}")

    async def stop(self) -> None:
        """Look at them no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.look()

    async def look(self) -> bool:
        """Look at the files now; return whether other certificates were taken."""
        try:
            # In a thread: the folder may be on a disk that hangs.
            contents = await asyncio.to_thread(self.files.contents)
        except SettingsError as error:
            if self._seen != (b"", b"", b""):
                self._seen = (b"", b"", b"")
                self._refuse(error)
            return False
        self._warn_of_expiry()
        if contents == self._seen:
            return False
        self._seen = contents
        if contents == (self.current.cert, self.current.key, self.current.ca):
            return False  # what was refused was taken back
        try:
            found = check(self.files, contents, self._now_s())
            takers = [make(found) for make in self._makers]
        except SettingsError as error:
            self._refuse(error)
            return False
        self.current = found
        self.version += 1
        for take in takers:
            take()
        self._reloads.add(1, {_SET: self._name, "voicemesh.tls.outcome": "taken"})
        _log.info("certificates reloaded", set=self._name, left_s=self._left_s(), names=self.current.names)
        for told in self._told:
            told()
        return True

    def _refuse(self, error: SettingsError) -> None:
        self._reloads.add(1, {_SET: self._name, "voicemesh.tls.outcome": "refused"})
        hint = "those in use stay" if self.current.ends_s > self._now_s() else "those in use have expired"
        _log.error("certificates refused", set=self._name, error=str(error), hint=hint)

    def _warn_of_expiry(self) -> None:
        if self._warned_of != self.version and self.current.expires_soon(self._now_s()):
            self._warned_of = self.version
            _log.warning(
                "a certificate expires soon",
                variable=self.files.cert_variable,
                file=self.files.cert,
                left_s=self._left_s(),
            )

    def _left_s(self) -> int:
        return round(self.current.ends_s - self._now_s())
