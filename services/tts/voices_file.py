"""The file that declares voices, and what changes in it while they serve.

It is looked at about once a second by what its path leads to, as a ConfigMap is mounted: a link to
a folder that is swapped as a whole. It is read when that changed, and applied when its content did.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from services.tts.settings import VOICES_TYPE, VoiceDeclaration
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_LOOK_S: Final = 1.0
_MAX_BYTES: Final = 4 * 1024 * 1024
_VARIABLE: Final = "VOICEMESH_TTS_VOICES_FILE"
_VOICES: Final[TypeAdapter[tuple[VoiceDeclaration, ...]]] = TypeAdapter(VOICES_TYPE)

_Mark = tuple[int, int, int, int] | None


class VoicesFile:
    """The declarations in a file.

    Args:
        path: The file.

    Attributes:
        source: The variable that names it, and the file: how what is wrong with it begins.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.source = f"{_VARIABLE}: {path}"
        self._mark: _Mark = None
        self._content = b""

    def read(self) -> tuple[VoiceDeclaration, ...]:
        """Return its declarations.

        Raises:
            SettingsError: It cannot be read, or says something wrong. The text names the file, and the
                place in it.

        """
        self._mark = self._look()
        try:
            with self._path.open("rb") as file:
                self._content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            self._content = b""
            raise SettingsError(f"{self.source}: {error.strerror or error}") from None
        if len(self._content) > _MAX_BYTES:
            raise SettingsError(f"{self.source}: more than {_MAX_BYTES} bytes")
        return self._parse(self._content)

    def changed(self) -> bool:
        """Return whether its content may be another than when it was read last; then read it."""
        mark = self._look()
        if mark == self._mark:
            return False
        self._mark = mark
        try:
            with self._path.open("rb") as file:
                return file.read(_MAX_BYTES + 1) != self._content
        except OSError:
            return True  # `read` says why

    def _look(self) -> _Mark:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _parse(self, content: bytes) -> tuple[VoiceDeclaration, ...]:
        try:
            return _VOICES.validate_python(json.loads(content))
        except ValidationError as error:
            (problem,) = error.errors(include_url=False, include_input=False)  # all of them, in one text
            text = problem["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{self.source}: {text}") from None
        except ValueError as error:
            raise SettingsError(f"{self.source}: not valid JSON: {error}") from None
        except RecursionError:
            raise SettingsError(f"{self.source}: not valid JSON: it is too deep") from None

    async def watch(
        self,
        apply: Callable[[tuple[VoiceDeclaration, ...]], None],
        refuse: Callable[[str], object],
    ) -> None:
        """Look at it for ever.

        Args:
            apply: Takes what it declares after a change. Raises `SettingsError` where that is refused.
            refuse: Told why a change cannot be taken; `apply` was not asked then.

        """
        while True:
            await asyncio.sleep(_LOOK_S)
            if not await asyncio.to_thread(self.changed):
                continue
            try:
                voices = await asyncio.to_thread(self.read)
            except SettingsError as error:
                refuse(str(error))
                _log.error("voices file is refused, the voices go on as they are", reason=str(error))
                continue
            try:
                apply(voices)
            except SettingsError as error:
                _log.error("voices file is refused, the voices go on as they are", reason=str(error))
            else:
                _log.info("voices file is applied", voices=[voice.name for voice in voices])
