"""The file of flags, followed while turns run.

It is looked at twice a second by what its path leads to, as the file of voices is, and used when its content
changed. A file that is wrong in any place is refused as a whole: the flags stay as they were. Where there is
nothing to stay with, because the gateway has just started, the newest good version beside the file is used.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from voicemesh.flags.definitions import EMPTY, Definitions, parse
from voicemesh.flags.errors import FlagsError
from voicemesh.flags.provider import FileProvider
from voicemesh.flags.versions import FlagsFile
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
_LOOK_S: Final = 0.5

_UNREAD: Final = (-1,)
"""The mark of a file that could not be read: no file has it."""
_Mark = tuple[int, ...] | None


class WatchedFile:
    """A file of flags, and the provider that evaluates it.

    Attributes:
        provider: What evaluates.
        problem: What is wrong with the file as it is now; "" where nothing is.

    """

    def __init__(self, path: Path) -> None:
        self.provider = FileProvider()
        self.problem = ""
        self._path = path
        self._file = FlagsFile(path)
        self._mark = self._look()
        self._content: bytes | None = None
        self._begin()

    @property
    def keys(self) -> frozenset[str]:
        """The flags that turns are made by and the file has."""
        return self._keys

    async def watch(self) -> None:
        """Look at it for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if await asyncio.to_thread(self.changed):
                self.apply()

    def changed(self) -> bool:
        """Return whether its content is another than it was; then it was read, and `apply` uses it."""
        mark = self._look()
        if mark == self._mark:
            return False
        self._mark = mark
        try:
            content = self._file.content()
        except FlagsError as error:
            self._refuse(str(error))
            self._mark = _UNREAD  # that may pass without a change of the file: look again
            return False
        if content == self._content and not self.problem:
            return False
        self._content = content
        return True

    def apply(self) -> None:
        """Use what was read, if it is right."""
        if self._content is None:
            self._refuse("is not there")
            return
        try:
            definitions = parse(self._content)
            self._use(definitions)
        except FlagsError as error:
            self._refuse(str(error))
            return
        except Exception as error:  # noqa: BLE001 - who evaluates may know of more: flags stay, and are watched
            self._refuse(f"{type(error).__name__}: {error}")
            return
        self.problem = ""
        who = {key: "; ".join(flag.who) for key, flag in definitions.own.items()}
        _log.info("flags are applied", file=str(self._path), flags=who)

    def _begin(self) -> None:
        """Use the file, or the newest good version of it; a gateway starts in any case."""
        self._use(EMPTY)
        try:
            self._content = self._file.content()
        except FlagsError as error:
            self._refuse(str(error))
            self._mark = _UNREAD
        else:
            self.apply()
        if not self.problem:
            return
        # Whatever is wrong with it: a gateway starts.
        with contextlib.suppress(Exception):
            found = self._file.last_good()
            if found is not None:
                version, definitions = found
                self._use(definitions)
                _log.warning("flags of a version before are used", version=version.number)

    def _use(self, definitions: Definitions) -> None:
        self.provider.use(definitions)
        self._keys = frozenset(definitions.own)

    def _refuse(self, why: str) -> None:
        if why != self.problem:
            self.problem = why
            _log.error("flags file is refused, the flags stay as they are", file=str(self._path), reason=why)

    def _look(self) -> _Mark:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The time of the inode too: a copy may bring the old time of the content with it.
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
