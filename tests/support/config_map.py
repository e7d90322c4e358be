"""A file as kubelet mounts a ConfigMap, and changes it under whoever reads it."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any


class ConfigMap:
    """One file of a ConfigMap: a link through a folder that is swapped as a whole.

        voices.json -> ..data/voices.json        ..data -> ..version0        later: ..data -> ..version1

    Args:
        root: Where it is mounted.
        name: Of the file.

    Attributes:
        path: What a process is told.

    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._versions = itertools.count()
        self.path = root / name
        self.path.symlink_to(f"..data/{name}")

    def write(self, content: Any) -> None:
        """Have another content: text as it is, or what JSON can say."""
        data = self._root / "..data"
        before = data.readlink() if data.is_symlink() else None
        version = self._root / f"..version{next(self._versions)}"
        version.mkdir()
        text = content if isinstance(content, str) else json.dumps(content)
        (version / self.path.name).write_text(text)
        fresh = self._root / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(data)
        if before is not None:
            shutil.rmtree(self._root / before)  # kubelet leaves nothing of before
