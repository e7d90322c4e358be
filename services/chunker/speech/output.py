r"""Puts what is said together: joins it without doubled spaces, and accounts for every source character.

    source   G r e a t _ 🎉 ! _ N e x t            _ is a space
    said     G r e a t     ! _ N e x t
                      ^ held until it shows what follows: before a mark it goes, before a word it stays

A space behind a word is held for that one character; all else leaves at once. So a pictograph or a
footnote leaves neither two spaces nor a space before a full stop.
"""

from typing import Final

from services.chunker import marks
from services.chunker.speech.spoken import Spoken

_MOST_UNREAD: Final = 64  # so many plain tokens at most wait to be looked at
_WHITE_LIMIT: Final = 32  # so much white space at most is held
# What stands directly behind a word: white space that a dropped thing left before it goes.
_CLOSING: Final = frozenset(".,;:!?)]}\u2026\u2019\u201d\u00bb\uff09") | marks.HARD_SET | marks.CLAUSE_FULL

_new: Final = tuple.__new__  # four times as fast as the class's own


def _holds_white(last: str) -> bool:
    """Say whether white space behind the character `last` waits for what follows."""
    return last.isalnum() or last in ")%"


class Output:
    """Collects pieces until they are taken."""

    __slots__ = (
        "_break",
        "_dropped",
        "_held",
        "_held_length",
        "_next",
        "_passed",
        "_pieces",
        "_run",
        "_tail",
        "_unread",
        "at_boundary",
        "ends_white",
        "last",
        "words",
    )

    def __init__(self) -> None:
        self.last = ""
        """What was said last, white space aside; one character, or empty at the beginning."""
        self.ends_white = True
        """What was said (or is held) last is white space, or nothing has been said."""
        self.at_boundary = True
        """Nothing has been said since the last boundary, white space aside."""
        self.words = 0
        """Words that were said in this line."""
        self._pieces: list[Spoken] = []
        self._next = 0  # offset of the first source character that is in no piece
        self._run: list[str] = []  # verbatim text behind the pieces
        self._held = ""  # white space behind that
        self._held_length = 0  # length of its source
        self._break = 0  # length of a line break behind that, of which nothing is decided
        self._passed = 0  # length of what was dropped behind that
        self._unread: list[str] = []  # plain text that was passed on, and not looked at
        self._tail = ""  # the last two characters of what was looked at of it
        self._dropped = False  # something was dropped since the last character that is not white

    @property
    def is_plain(self) -> bool:
        """Plain text can go on as it is: but for one space, nothing is held."""
        return not (self._dropped or self._break) and self._held_length == len(self._held) <= 1

    @property
    def has_break(self) -> bool:
        """A line break waits to be settled."""
        return self._break > 0

    @property
    def offset(self) -> int:
        """Offset of the first source character that nothing was decided about."""
        return self._next + self._held_length + self._break + self._passed

    @property
    def next_offset(self) -> int:
        """Offset of the first source character that is in no piece."""
        return self._next

    def pass_on(self, text: str) -> str:
        """Say plain text at once; return what of it is said now. `catch_up` comes before anything else.

        `is_plain` holds, nothing else has come since the last `take`, and `text` does not end in white
        space, one space behind something else aside.
        """
        if self._held:
            text = self._held + text
            self._held = ""
            self._held_length = 0
        if text[-1] == " " and _holds_white(text[-2]):
            text = text[:-1]
            self._held = " "
            self._held_length = 1
        self._next += len(text)
        unread = self._unread
        unread.append(text)
        if len(unread) > _MOST_UNREAD:
            self._look_at_unread()
        return text

    def catch_up(self) -> str:
        """Look at the text that was passed on; return the last two characters of it, with what is held."""
        if self._unread:
            self._look_at_unread()
        passed, self._tail = self._tail, ""
        if passed and self._held:
            passed += self._held
            self.ends_white = True
        return passed

    def _look_at_unread(self) -> None:
        text = "".join(self._unread)
        self._unread.clear()
        self._said(text)
        self.ends_white = text[-1] == " "
        self._tail = (self._tail + text)[-2:]

    def keep(self, text: str) -> None:
        """Say `text` as it stands in the source."""
        if self._held or self._dropped:
            text = self._lead_in(text)
            if not text:
                return
            self._settle(text, replaces=False)
        body = text.rstrip()
        if body:
            self._run.append(body)
            self._said(body)
        if len(body) < len(text):
            self._white(text[len(body) :])

    def say(self, text: str, length: int) -> None:
        """Say `text` instead of the next `length` source characters."""
        if not text:
            self.drop(length)
        elif text == "\n":
            self.pend_break(length)
            self.settle_break("\n")
        elif text.isspace():
            if self.ends_white:
                self.drop(length)
            else:
                self._flush_passed()
                self._hold(" ", length)
        else:
            self._settle(text, replaces=True)
            self._piece(text, length)
            self._said(text)
            self.ends_white = text[-1].isspace()

    def drop(self, length: int) -> None:
        """Say nothing for the next `length` source characters."""
        self._passed += length
        self._dropped = True

    def pend_break(self, length: int) -> None:
        """Take in a line break of `length` characters; `settle_break` says what becomes of it."""
        white = self._held_length + self._passed
        if self._held:
            self._held = ""
            self._held_length = 0
            self.ends_white = False
        self._passed = 0
        self._break += white + length
        self.words = 0

    def settle_break(self, text: str) -> None:
        r"""Say the line break as `text`: a `\n` is a boundary, a space joins lines, empty says nothing."""
        length, self._break = self._break, 0
        if not length:
            return
        passed, self._passed = self._passed, 0
        if text == "\n" and not self.at_boundary:
            self._piece("\n", length)
            self.ends_white = self.at_boundary = True
        elif text == " " and not self.ends_white:
            self._hold(" ", length)
        else:
            self._passed = length
        self._passed += passed
        self._dropped = True

    def release(self) -> None:
        """Let go of all that is held: time is up, or no more text comes."""
        if self._break:
            self.settle_break("\n")
        if self._held:
            self._emit_held()
        self._flush_passed()

    def take(self) -> list[Spoken]:
        """Return the pieces that are decided, and forget them."""
        if not (self._held or self._break):
            self._flush_passed()
        self._flush_run()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _lead_in(self, text: str) -> str:
        """Take in the white space before `text`, and return the rest."""
        body = text.lstrip()
        white = text[: len(text) - len(body)]
        if white and not self._dropped:
            self._white(white)
        elif white:
            # One of the spaces on either side of what was dropped is enough.
            if not self.ends_white:
                self._flush_passed()
                self._white(white[0])
                white = white[1:]
            self._passed += len(white)
        return body

    def _settle(self, text: str, *, replaces: bool) -> None:
        """Decide about the white space that is held, now that `text` follows."""
        if self._held:
            if (self._dropped or replaces) and text[0] in _CLOSING:
                self._passed += self._held_length
                self._held = ""
                self._held_length = 0
            else:
                self._emit_held()
        self._flush_passed()

    def _said(self, text: str) -> None:
        words = text.split()
        goes_on = not (self.ends_white or text[0].isspace())
        self.words += len(words) - goes_on
        self.last = words[-1][-1]
        self.ends_white = self.at_boundary = self._dropped = False

    def _white(self, text: str) -> None:
        """Take in white space as it stands in the source: held behind a word, else said at once."""
        if (self._held or not self.ends_white) and _holds_white(self.last):
            self._hold(text, len(text))
            if len(self._held) >= _WHITE_LIMIT:
                self._emit_held()
        else:
            self._run.append(text)
        self.ends_white = True

    def _hold(self, text: str, length: int) -> None:
        self._held += text
        self._held_length += length
        self.ends_white = True

    def _emit_held(self) -> None:
        if len(self._held) == self._held_length:
            self._run.append(self._held)
        else:
            self._piece(self._held, self._held_length)
        self._held = ""
        self._held_length = 0

    def _flush_run(self) -> None:
        if self._run:
            text = "".join(self._run)
            self._run.clear()
            self._pieces.append(_new(Spoken, (text, self._next, len(text))))
            self._next += len(text)

    def _flush_passed(self) -> None:
        if self._passed:
            length, self._passed = self._passed, 0
            self._piece("", length)

    def _piece(self, text: str, length: int) -> None:
        self._flush_run()
        self._pieces.append(_new(Spoken, (text, self._next, length)))
        self._next += length
