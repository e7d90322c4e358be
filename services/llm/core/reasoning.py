"""Leaves out what a model thinks aloud between tags in its text, at the beginning of a reply.

    beginning ── <think> ──> reasoning ── </think> ──┐
        ^ │                                          │ more of it may follow at once
        └─┼──────────────────────────────────────────┘
          └── anything else ──> text: from here on nothing is left out

Servers that know their model give reasoning a field of its own; this is for those that do not. Tags count
at the beginning alone, so that a reply may tell of them. Source of the tags: the templates of the models.
"""

import re
from typing import Final, Literal

Mode = Literal["strip", "begins_inside", "keep"]

_TAGS: Final = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3, GLM, MiniMax and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
}
_INSIDE: Final = "</think>"
# Harmony, of gpt-oss: <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…
_HEADER: Final = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?P<channel>(?:[^<]|<\|constrain\|>){0,120})<\|message\|>"
)
_HEADER_PARTS: Final = ("<|start|>assistant<|channel|>", "<|channel|>")
_MESSAGE: Final = "<|message|>"
_CONSTRAIN: Final = "<|constrain|>"
_HARMONY_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
_MAX_HEADER_CHARS: Final = 192
_MAX_BLANKS: Final = 64


class ReasoningFilter:
    """Takes a reply in pieces, however they are cut, and gives what is to be spoken of it.

    Holds back at most a tag, or the header of a channel, and the blanks in front of it.

    Args:
        mode: `strip`; `begins_inside` for a model whose template opens the tag; `keep` leaves all.

    """

    def __init__(self, mode: Mode) -> None:
        self._held = ""
        self._closers: tuple[str, ...] = (_INSIDE,) if mode == "begins_inside" else ()
        self._is_text = mode == "keep"
        self._harmony = False
        self._stripped = mode == "begins_inside"

    def feed(self, text: str) -> str:
        """Return what can be spoken of what came so far and was not returned."""
        if self._is_text and not self._harmony:
            return text
        self._held += text
        while not self._is_text and (self._leave() if self._closers else self._enter()):
            pass
        return self._speak(at_end=False) if self._is_text else ""

    def end(self) -> str:
        """Return what was held back and is text. Reasoning that was never closed is none."""
        if self._closers or (self._harmony and not self._is_text):
            self._held = ""  # reasoning, or what was to be the header of a channel
        elif not self._is_text and self._stripped:
            self._held = self._held.lstrip()
        return self._speak(at_end=True)

    def _enter(self) -> bool:
        """Look for an opening tag; return False where more must come."""
        body = self._held.lstrip()
        if not body and len(self._held) <= _MAX_BLANKS:
            return False
        for opener, closer in _TAGS.items():
            if body.startswith(opener):
                self._begin(body[len(opener) :], (closer,))
                return True
        if header := _HEADER.match(body):
            self._harmony = True
            rest = body[header.end() :]
            if header["channel"].strip().startswith("final"):
                self._held, self._is_text = rest, True
            else:
                self._begin(rest, _HARMONY_ENDS)
            return True
        if body and (any(opener.startswith(body) for opener in _TAGS) or _may_be_header(body)):
            return False
        self._is_text = True
        if self._stripped:
            self._held = body
        return True

    def _begin(self, rest: str, closers: tuple[str, ...]) -> None:
        self._held, self._closers, self._stripped = rest, closers, True

    def _leave(self) -> bool:
        """Look for the closing tag; return False where more must come."""
        found = [(self._held.find(closer), closer) for closer in self._closers]
        ends = [(at, closer) for at, closer in found if at >= 0]
        if not ends:
            keep = max(len(closer) for closer in self._closers) - 1
            self._held = self._held[-keep:]
            return False
        at, closer = min(ends)
        self._held, self._closers = self._held[at + len(closer) :], ()
        return True

    def _speak(self, *, at_end: bool) -> str:
        if not self._harmony:
            text, self._held = self._held, ""
            return text
        # The mark behind a final channel is no text either.
        for mark in _HARMONY_ENDS:
            head, found, _ = self._held.partition(mark)
            if found:
                self._held = head
        text = self._held
        cut = len(text)
        if not at_end:
            cut = next(
                (
                    at
                    for at in range(max(0, len(text) - max(map(len, _HARMONY_ENDS)) + 1), len(text))
                    if any(mark.startswith(text[at:]) for mark in _HARMONY_ENDS)
                ),
                len(text),
            )
        self._held = text[cut:]
        return text[:cut]


def _may_be_header(body: str) -> bool:
    """Say whether the header of a channel may still come of what is here."""
    if len(body) > _MAX_HEADER_CHARS:
        return False
    for start in _HEADER_PARTS:
        if start.startswith(body):
            return True
        if body.startswith(start):
            name, mark, rest = body[len(start) :].replace(_CONSTRAIN, "").partition("<")
            return len(name) <= 120 and (
                _MESSAGE.startswith(mark + rest) or _CONSTRAIN.startswith(mark + rest)
            )
    return False
