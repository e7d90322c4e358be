"""Exported files, line by line: JSON lines, one JSON document, either of them compressed with gzip.

Memory is bounded however large a file is: of a file of lines one line is held, of a document the whole, up to
`MOST_BYTES` either way.
"""

import gzip
import io
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

from voicemesh.critical_path.traces import BadSpanError, spans_of, turn_of
from voicemesh.critical_path.turns import Turn

MOST_BYTES: Final = 64 << 20
"""Of one line, or of a document over several lines."""
_SHORT: Final = 200
"""Characters of the first line of a document that people can read."""
_SEEN: Final = 100_000
_GZIP: Final = b"\x1f\x8b"

Complain = Callable[[int, str], None]
"""Is told of what is left out: its line, from 1, and what is wrong with it."""


class UnreadableError(Exception):
    """A file that cannot be read to its end, or is no export at all; the text says where and why."""


class _CutOffError(Exception):
    """A compressed file ends before its end; the text says so."""


def read_turns(stream: IO[bytes], complain: Complain) -> Iterator[Turn]:
    """Give the turns of an exported file as they stand there. What is broken is left out and told of.

    Args:
        stream: The file; it need not be seekable.
        complain: Is told of each broken line, and of each span of a turn that cannot be read.

    Raises:
        UnreadableError: The stream cannot be read, a line is too long, or the document is no JSON.

    """
    for number, request in _requests(_decompressed(stream), complain):
        try:
            for span in spans_of(request):
                try:
                    turn = turn_of(span)
                except BadSpanError as error:
                    complain(number, f"a turn is left out: {error}")
                    continue
                if turn is not None:
                    yield turn
        except BadSpanError as error:
            complain(number, str(error))


def distinct(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Give each turn once: exporters repeat a batch whose answer was lost, soon behind the first."""
    seen: OrderedDict[tuple[str, str, int], None] = OrderedDict()
    for turn in turns:
        name = turn.tenant, turn.turn_id, turn.began_unix_us
        if name in seen:
            continue
        seen[name] = None
        if len(seen) > _SEEN:
            seen.popitem(last=False)
        yield turn


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    """Return what is in a stream: compressed or not is seen from its first bytes, not from its name."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var] # any readable
    if buffered.peek(len(_GZIP))[: len(_GZIP)] == _GZIP:
        return gzip.open(buffered)  # type: ignore[return-value] # a GzipFile reads like a file
    return buffered


def _requests(stream: IO[bytes], complain: Complain) -> Iterator[tuple[int, Any]]:
    """Give each request, and the line where it begins."""
    number = 0
    first = True
    while True:
        try:
            line = _line(stream, number + 1)
        except _CutOffError as error:
            # It is being written, or who wrote it was stopped: what is there counts, as in one without gzip.
            complain(number + 1, f"cannot be read: {error}")
            return
        if not line:
            return
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        request, wrong, open_ended = _parsed(line)
        if first and open_ended:
            try:
                yield number, _document(line, stream, number)
            except _CutOffError as error:
                raise UnreadableError(f"line {number}: cannot be read: {error}") from None
            return
        first = False
        if wrong:
            complain(number, wrong)
        else:
            yield number, request


def _line(stream: IO[bytes], number: int) -> bytes:
    try:
        line = stream.readline(MOST_BYTES + 1)
    except EOFError as error:
        if number > 1:
            raise _CutOffError(str(error)) from None
        raise UnreadableError(f"line {number}: cannot be read: {error}") from None
    except (zlib.error, gzip.BadGzipFile, OSError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(f"line {number}: cannot be read: {why}") from None
    if len(line) > MOST_BYTES:
        raise UnreadableError(
            f"line {number}: is longer than {MOST_BYTES >> 20} MiB; the collector's file exporter writes a "
            "line for each batch"
        )
    return line


def _parsed(line: bytes) -> tuple[Any, str, bool]:
    """Return a line's JSON, or what is wrong with it, and whether it may begin a longer document."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return None, f"is not valid UTF-8 at byte {error.start + 1}", False
    try:
        return json.loads(text), "", False
    except json.JSONDecodeError as error:
        # What is missing is missing at the end: the document goes on in the next line.
        cut = not text[error.pos :].strip() and text.lstrip().startswith("{") and text.endswith("\n")
        goes_on = cut and len(text) <= _SHORT  # a long one is a batch that was broken off
        return None, f"is no JSON: {error.msg} at character {error.colno}", goes_on
    except (ValueError, RecursionError) as error:
        return None, f"is no JSON: {error}", False


def _document(line: bytes, stream: IO[bytes], number: int) -> Any:
    """Read one document that is written over several lines, of which `line` is the first."""
    parts, size, last = [line], len(line), number
    while more := _line(stream, last + 1):
        parts.append(more)
        size += len(more)
        last += 1
        if size > MOST_BYTES:
            raise UnreadableError(
                f"line {last}: a document over several lines is larger than {MOST_BYTES >> 20} MiB; "
                "write it on one line for each batch (`jq -c`)"
            )
    try:
        return json.loads(b"".join(parts))
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"line {number + error.lineno - 1}: is no JSON: {error.msg} at character {error.colno}"
        ) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not valid UTF-8 at byte {error.start + 1}") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"line {number}: is no JSON: {error}") from None
