r"""The speech text filter: written text in, spoken text out. Sans-I/O, incremental.

    pushed    … a **bo|ld** word and [a li|nk](https://…) …
    text                                ^held: from the first character of which nothing is decided
    said      … a bold word and

The text is read once, from left to right, by rules that each decide about one mark: `blocks` for what
begins a line, `inline` for what stands in it. A rule that has to see more says so, and all from its mark
on is held until more has come; each rule has a limit on how much it waits for. Plain text runs past
the rules by one search, and leaves at once.
"""

from typing import Final

from services.chunker.speech.blocks import begin_line, skip_fence
from services.chunker.speech.inline import BEGUN, BEGUN_ENDS, RULES, SPECIAL, SPECIAL_IN_CODE, unsaid
from services.chunker.speech.reading import WAIT, Reading
from services.chunker.speech.spoken import Spoken

_search_special: Final = SPECIAL.search
_search_in_code: Final = SPECIAL_IN_CODE.search
_SPACE: Final = " "


class SpeechText:
    r"""Turns one text into what should be said.

    What comes out, joined, does not depend on how the text is cut into pushes, as long as `flush` is
    called at its end alone. A `\n` in it is a hard boundary: a chunk has to end there even without a full
    stop. Time is linear in the text, and memory bounded whatever the text is.

    Args:
        language: BCP 47 tag of the text; empty where it is not known.

    """

    def __init__(self, language: str = "") -> None:
        self._reading = Reading(language=language)
        self._plain = False  # nothing is held, and no state but the line's: plain text leaves as it is

    @property
    def is_plain(self) -> bool:
        """Nothing is open, and nothing but a space is held: letters that come now are said as they stand."""
        return self._plain

    def push(self, text: str) -> list[Spoken]:
        """Take in more text; give out all of it that is decided."""
        if not text:
            return []
        said = self.pass_on(text)
        if said is None:
            return self.read(text)
        length = len(said)
        return [Spoken(said, self._reading.out.next_offset - length, length)]

    def pass_on(self, text: str) -> str | None:
        """Take in plain text as most is, and return what of it is said at once, as it stands.

        None where the text needs a closer look: then nothing was taken in.
        """
        if self._plain and text and _search_special(text) is None:
            last = text[-1]
            if last == _SPACE:
                if len(text) > 1 and not text[-2].isspace():
                    return self._reading.out.pass_on(text)
            elif (last not in BEGUN_ENDS or BEGUN.search(text) is None) and not last.isspace():
                return self._reading.out.pass_on(text)
        return None

    def read(self, text: str) -> list[Spoken]:
        """Take in more text of any kind; give out all of it that is decided."""
        reading = self._reading
        reading.text += text
        self._read()
        return reading.out.take()

    def flush(self) -> list[Spoken]:
        """Decide and give out everything that is held.

        For the end of the text, and for a moment when what has come has to be said at once; more text
        may follow.
        """
        reading = self._reading
        reading.final = True
        self._read()
        reading.final = False
        reading.out.release()
        return reading.out.take()

    def _read(self) -> None:
        """Decide as far as the text that has come allows, and forget what is decided."""
        reading = self._reading
        passed = reading.out.catch_up()
        if passed:
            reading.before = (reading.before + passed)[-2:]
        text = reading.text
        reading.base = reading.out.offset
        index, size = 0, len(text)
        while index < size:
            if reading.skip is not None:
                done = self._pass_over(index)
            elif reading.fence is not None:
                done = skip_fence(reading, index)
            elif reading.line.starting:
                done = begin_line(reading, index)
            else:
                match = (_search_in_code if reading.code else _search_special)(text, index)
                end = match.start() if match else self._plain_end(index)
                if end > index:
                    reading.out.keep(text[index:end])
                    index = end
                if match is None:
                    break
                done = RULES.get(text[index], unsaid)(reading, index)
            if done == WAIT:
                break
            index += done
        reading.before = text[index - 2 : index] if index > 1 else (reading.before + text[:index])[-2:]
        reading.text = text[index:]
        self._plain = (
            index == size
            and reading.out.is_plain
            and not (reading.line.starting or reading.code or reading.skip or reading.fence)
        )

    def _plain_end(self, index: int) -> int:
        """Return where the plain text from `index` ends, before what may begin markup at the end of all."""
        reading = self._reading
        size = len(reading.text)
        if reading.final or reading.code or reading.text[-1] not in BEGUN_ENDS:
            return size
        match = BEGUN.search(reading.text, index)
        if match is None or (match.start() == 0 and match[0] != "=" and reading.previous(0).isalnum()):
            return size
        return match.start()

    def _pass_over(self, index: int) -> int:
        """Say nothing up to what the skipping waits for."""
        reading = self._reading
        skip, size = reading.skip, len(reading.text)
        assert skip is not None
        match = skip.until.search(reading.text, index)
        if match:
            reading.skip = None
            end = match.end() if skip.inclusive else match.start()
        else:
            end = size if reading.final else max(index, size - skip.keep)
            if end == index:
                return WAIT
        return reading.drop(end - index)
