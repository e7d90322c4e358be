"""Which chunker this is."""

import dataclasses
import importlib.resources
import pathlib

from services.chunker.policy import Limits
from services.chunker.revision import _sources, revision_of


def test_it_changes_with_what_limits_chunks_and_not_with_time() -> None:
    assert revision_of(Limits()) == revision_of(Limits())
    assert len(revision_of(Limits())) == 12
    assert revision_of(Limits(max_chars=100)) != revision_of(Limits(max_chars=101))
    slower = dataclasses.replace(Limits(), hold_ns=1)
    assert revision_of(slower) == revision_of(Limits())


def test_all_modules_that_cut_or_say_are_in_it(tmp_path: pathlib.Path) -> None:
    names = {name for name, _ in _sources(importlib.resources.files("services.chunker"), "")}
    assert {"cut.py", "policy.py", "speech/emoji.py"} <= names
    (tmp_path / "speech").mkdir()
    (tmp_path / "__pycache__").mkdir()
    for name in ("a.py", "speech/b.py", "__pycache__/c.py", "notes.md"):
        (tmp_path / name).write_text(name)
    assert list(_sources(tmp_path, "")) == [("a.py", b"a.py"), ("speech/b.py", b"speech/b.py")]
