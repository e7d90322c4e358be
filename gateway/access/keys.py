"""The keys that are let in, followed while the gateway runs.

The file is looked at twice a second, as that of flags is. One that is wrong in any place is refused as a
whole, and the keys stay as they were: a slip of whoever edits it neither opens the mesh nor closes it.
"""

import asyncio
import hmac
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from gateway.access.caller import Caller, Limits, Priority
from gateway.access.watching import Mark, look
from voicemesh import keyfile
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
LOOK_S: Final = 0.5
_NO_DIGEST: Final = "0" * 64
"""Compared with where there is no such key, so that the answer takes as long."""


class Keys:
    """The file of keys.

    Args:
        path: Where it is.
        wall_s: Seconds since 1970.

    Raises:
        SettingsError: It cannot be used: a gateway that is to ask for keys does not start without.

    """

    def __init__(self, path: Path, wall_s: Callable[[], float]) -> None:
        self._path = path
        self._wall_s = wall_s
        self._mark: Mark = look(path)
        self._problem = ""
        try:
            self._keys = keyfile.read(path)
        except keyfile.KeyFileError as error:
            raise SettingsError(f"VOICEMESH_GATEWAY_KEYS_FILE: {path} {error}") from None
        if not self._keys:
            _log.warning("nobody has a key", file=str(path), hint="voicemesh keys new makes one")

    def __len__(self) -> int:
        """Keys in the file."""
        return len(self._keys)

    def caller(self, shown: str) -> Caller | None:
        """Return whose key this is; None where it is nobody's, expired or revoked."""
        key = self._keys.get(keyfile.id_of(shown))
        known = hmac.compare_digest(keyfile.digest(shown), key.sha256 if key is not None else _NO_DIGEST)
        if not known or key is None or key.state(self._wall_s()) != "active":
            return None
        return Caller(
            tenant=key.tenant,
            key_id=key.id,
            scopes=frozenset(key.scopes),
            priority=Priority[key.priority.upper()],
            limits=Limits(**key.limits),
            expires_unix_s=key.expires_unix_s,
            is_good=partial(self._is_good, key.id, key.sha256),
        )

    def _is_good(self, key_id: str, sha256: str) -> bool:
        """Say whether a key that was good still is."""
        key = self._keys.get(key_id)
        return key is not None and key.sha256 == sha256 and key.state(self._wall_s()) == "active"

    async def watch(self) -> None:
        """Look at the file for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file anew if it is another than it was."""
        mark = await asyncio.to_thread(look, self._path)
        if mark == self._mark:
            return
        try:
            keys = await asyncio.to_thread(keyfile.read, self._path)
        except keyfile.KeyFileError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error(
                    "keys file is refused, the keys stay as they are", file=str(self._path), reason=str(error)
                )
            self._mark = mark
            return
        self._mark, self._problem, self._keys = mark, "", keys
        states = [key.state(self._wall_s()) for key in keys.values()]
        _log.info("keys are applied", file=str(self._path), keys=len(states), active=states.count("active"))
