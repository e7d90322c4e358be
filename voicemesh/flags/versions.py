"""The file of flags on disk: changed as a whole, and taken back.

    flags.json                what gateways read
    flags.json.versions/      what stood in it before, newest last: 000001.json, 000002.json, …
                      lock    held while it is changed

A change is written beside the file and renamed over it, so that nobody reads half of one. Every state that is
written here is kept, and so is what somebody else wrote meanwhile, up to the last 50.
"""

import contextlib
import copy
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voicemesh.flags.definitions import EMPTY, MAX_BYTES, Definitions, checked, parse
from voicemesh.flags.errors import FlagsError

_KEPT: Final = 50
_WAIT_S: Final = 5.0
_PAUSE_S: Final = 0.05
_DIGITS: Final = 6


@dataclass(frozen=True)
class Version:
    """A state of the file that is kept.

    Attributes:
        number: Counts up.
        written_s: When it was kept, in seconds since 1970.
        path: Where it is.

    """

    number: int
    written_s: float
    path: Path


@dataclass(frozen=True)
class Change:
    """What a change did.

    Attributes:
        before: What the file said; None where that could not be read.
        after: What it says now.
        version: The number under which it is kept.
        source: The number of the version that it went back to; None for another change.
        held: What the newest good version said, which gateways go on with; None where there is none.

    """

    before: Definitions | None
    after: Definitions
    version: int
    source: int | None = None
    held: Definitions | None = None

    @property
    def lines(self) -> list[str]:
        """What is different now, a line for each flag: of a broken file, from what gateways go on with."""
        before = self.before or self.held
        old = before.flags if before is not None else {}
        lines = []
        for key in sorted({*old, *self.after.flags}):
            was, now = old.get(key), self.after.flags.get(key)
            if was is not None and now is not None and was.source == now.source:
                continue
            texts = ["; ".join(flag.who) if flag is not None else "no such flag" for flag in (was, now)]
            if texts[0] == texts[1]:
                texts = [_values(was.variants if was else {}), _values(now.variants if now else {})]
            lines.append(f"{key}: {texts[0]} -> {texts[1]}")
        return lines


def _values(variants: Mapping[str, Any]) -> str:
    return json.dumps(variants, ensure_ascii=False)


class FlagsFile:
    """A file of flags, and the versions beside it. What it does may wait for the disk.

    Args:
        path: The file. It need not be there.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A link stays one: what it leads to is replaced.
        self._real = path.resolve()
        self._folder = self._real.with_name(f"{self._real.name}.versions")

    def content(self) -> bytes | None:
        """Return what is in the file; None where there is none. Raises FlagsError."""
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FlagsError(f"cannot be read: {error.strerror or error}") from None

    def read(self) -> Definitions:
        """Return what the file says; no flag where there is no file. Raises FlagsError."""
        content = self.content()
        return EMPTY if content is None else parse(content)

    def versions(self) -> list[Version]:
        """Return the versions that are kept, oldest first."""
        try:
            found = [
                Version(int(path.stem), path.stat().st_mtime, path)
                for path in self._folder.glob("*.json")
                if path.stem.isdecimal()
            ]
        except OSError as error:
            raise FlagsError(f"{self._folder} cannot be read: {error.strerror or error}") from None
        return sorted(found, key=lambda version: version.number)

    def last_good(self) -> tuple[Version, Definitions] | None:
        """Return the newest version that says nothing wrong; None where there is none."""
        for version in reversed(self.versions()):
            with contextlib.suppress(FlagsError, OSError):
                return version, parse(version.path.read_bytes())
        return None

    def change(self, edit: Callable[[dict[str, Any]], None]) -> Change:
        """Change the file.

        Args:
            edit: Is given the file's JSON, and changes it. Others wait meanwhile.

        Raises:
            FlagsError: The file is wrong as it is, would be wrong, or cannot be written.

        """
        with self._locked():
            found = self.content()
            before = EMPTY if found is None else parse(found)
            document = copy.deepcopy(dict(before.document))
            edit(document)
            return self._replace(found, before, checked(document), None)

    def roll_back(self, key: str = "", to: int | None = None) -> Change:
        """Go back to the version before, which is kept as a new one: rolling back again undoes it.

        Args:
            key: The one flag to take back: to what it last was before it was changed. "": all.
            to: The number of the version to go back to; None for the one before.

        Raises:
            FlagsError: There is no such version, the flag never was anything else, or the file cannot be
                written.

        """
        with self._locked():
            found = self.content()
            before = None
            with contextlib.suppress(FlagsError):
                before = EMPTY if found is None else parse(found)
            if key and before is None:
                raise FlagsError("one flag of a broken file cannot be taken back: take back the whole file")
            for version in reversed(self.versions()):
                if to is not None and version.number != to:
                    continue
                try:
                    content = version.path.read_bytes()
                    older = parse(content)
                except (OSError, FlagsError) as error:
                    if to is not None:
                        raise FlagsError(f"version {to} cannot be used: {error}") from None
                    continue
                after = _with_flag(before, older, key) if key and before is not None else older
                same = before is not None and after.document == before.document
                if not same:
                    return self._replace(found, before, after, version.number)
                if to is not None:
                    raise FlagsError(f"nothing to take back: that is how it was in version {to}")
            what = (
                f"version {to}"
                if to is not None
                else f"version in which {key} was another"
                if key
                else "other version"
            )
            raise FlagsError(f"nothing to take back: no {what} is kept")

    def _replace(
        self, found: bytes | None, before: Definitions | None, after: Definitions, source: int | None
    ) -> Change:
        if before is not None and after.document == before.document:
            raise FlagsError("nothing to change: that is how it is")
        content = (json.dumps(after.document, indent=2, ensure_ascii=False) + "\n").encode()
        if len(content) > MAX_BYTES:
            raise FlagsError(f"would have {len(content)} bytes; at most {MAX_BYTES} are read")
        good = self.last_good() if before is None else None
        held = good[1] if good is not None else None
        try:
            if found is not None:
                self._keep(found)
            # Who does not take the lock, as an editor, may have written meanwhile.
            if self.content() != found:
                raise FlagsError("was changed by somebody else in this moment; look at it and try again")
            _write(self._real, content)
            # Behind that, so that nothing is kept, and gone back to, that the file never said. Where it
            # fails, the next change keeps it.
            number = self._keep(content)
            self._prune()
        except OSError as error:
            raise FlagsError(f"cannot be written: {error.strerror or error}") from None
        return Change(before, after, number, source, held)

    def _keep(self, content: bytes) -> int:
        """Keep a state, unless it is the newest that is kept; return its number."""
        kept = self.versions()
        if kept and kept[-1].path.read_bytes() == content:
            return kept[-1].number
        number = kept[-1].number + 1 if kept else 1
        _write(self._folder / f"{number:0{_DIGITS}}.json", content)
        return number

    def _prune(self) -> None:
        for version in self.versions()[:-_KEPT]:
            version.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others out, waiting for them at most 5 s."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise FlagsError(f"cannot be changed here: {self._folder}: {error.strerror or error}") from None
        with lock:
            ends_s = time.monotonic() + _WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends_s:
                        raise FlagsError("is being changed by somebody else; try again") from None
                    time.sleep(_PAUSE_S)
            yield


def _with_flag(present: Definitions, older: Definitions, key: str) -> Definitions:
    """Return `present` with the flag `key` as it is in `older`."""
    document = copy.deepcopy(dict(present.document))
    flags = document["flags"]
    if key in older.flags:
        flags[key] = older.flags[key].source
        needed = older.document.get("$evaluators")
        if needed:
            document["$evaluators"] = {**needed, **document.get("$evaluators", {})}
    else:
        flags.pop(key, None)
    return checked(document)


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole, keeping its mode."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
