"""Replies of many kinds, as models write them to be spoken: (language, text)."""

import json
import pathlib

_LINES = (pathlib.Path(__file__).parent / "replies.jsonl").read_text(encoding="utf-8").splitlines()
REPLIES: tuple[tuple[str, str], ...] = tuple(
    (reply["language"], reply["text"]) for reply in map(json.loads, _LINES)
)
