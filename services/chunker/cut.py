"""`python -m services.chunker.cut`: how a text would be cut, and why. Needs no server and no gRPC.

All of the text is there at once and nobody listens: chunks that time decides about do not occur here.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Final, TextIO

from services.chunker.policy import DEFAULT_MAX_CHARS, MAX_WORDS, Chunk, ChunkerConfig, Policy
from services.chunker.spoken import chunker_for
from voicemesh.runtime.errors import MeshError

EXIT_USAGE: Final = 2

_WHY: Final = {
    "sentence": "a sentence ended",
    "clause": "a clause ended that is long enough to begin with",
    "phrase": "a phrase ended, and waiting for a mark was not worth the silence",
    "words": "the set number of words was there",
    "limit": "the limit of characters was reached",
    "deadline": "the player was about to run dry",
    "flush": "the text ended",
}


class _UsageError(Exception):
    """What the person typed, or sent to standard input, cannot be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 for a wrong argument or wrong input."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        config = _config(options)
        if options.tokens:
            _cut_lines(sys.stdin.buffer, sys.stdout.buffer, config, speech_text=options.speech_text)
        else:
            chunks = _cut([_argument(options.text)], config, speech_text=options.speech_text)
            _show(chunks, sys.stdout, as_json=options.json)
    except _UsageError as error:
        sys.stderr.write(f"voicemesh chunk: {error}\n")
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voicemesh chunk", description="Show how a text would be cut into chunks, and why."
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the text")
    parser.add_argument(
        "--policy",
        default="adaptive",
        metavar="POLICY",
        help="sentence, clause, adaptive (the default) or words:N, with N words to a chunk",
    )
    parser.add_argument(
        "--min-chars",
        type=int,
        default=0,
        metavar="N",
        help="shorter chunks merge forward; 0 is the policy's own",
    )
    parser.add_argument(
        "--max-chars",
        type=int,
        default=DEFAULT_MAX_CHARS,
        metavar="N",
        help="no chunk is longer (%(default)s)",
    )
    parser.add_argument("--language", default="", metavar="TAG", help="language of the text, as in de-AT")
    parser.add_argument(
        "--tokens",
        action="store_true",
        help="read a JSON array of tokens a line from standard input; print a line of JSON for each",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--speech-text",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn markup, links, tables and pictographs into what is said (the default)",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.tokens and options.text is not None:
        raise _UsageError("--tokens reads standard input: leave TEXT away")
    if not options.tokens and options.text is None:
        raise _UsageError("give a TEXT, or --tokens to read standard input")


def _config(options: argparse.Namespace) -> ChunkerConfig:
    name, colon, count = options.policy.partition(":")
    try:
        policy = Policy(name)
    except ValueError:
        policy = None
    words = int(count) if count.isascii() and count.isdigit() else 0
    if policy is None or (policy is Policy.WORDS) != bool(colon):
        raise _UsageError(f"--policy: no such policy: {options.policy} (sentence, clause, adaptive, words:N)")
    if policy is Policy.WORDS and not 1 <= words <= MAX_WORDS:
        raise _UsageError(f"--policy: words:N needs an N of 1 to {MAX_WORDS}")
    try:
        return ChunkerConfig(
            policy=policy,
            words=words,
            min_chars=options.min_chars,
            max_chars=options.max_chars,
            language=options.language,
            max_text_chars=sys.maxsize,
        )
    except MeshError as error:
        option = "--" + error.field.rpartition(".")[2].replace("_", "-")
        raise _UsageError(f"{option}: {error.message.partition(': ')[2]}") from None


def _argument(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _UsageError("TEXT is not valid UTF-8") from None
    return text


def _cut(tokens: Iterable[str], config: ChunkerConfig, *, speech_text: bool) -> list[Chunk]:
    chunker = chunker_for(config, speech_text=speech_text)
    chunks = [chunk for token in tokens for chunk in chunker.push(token, 0)]
    return chunks + chunker.end(0)


def _cut_lines(source: BinaryIO, target: BinaryIO, config: ChunkerConfig, *, speech_text: bool) -> None:
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        result = {"chunks": _plain(_cut(_tokens(line, number), config, speech_text=speech_text))}
        target.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")
        target.flush()


def _tokens(line: bytes, number: int) -> list[str]:
    where = f"line {number} of standard input"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _UsageError(f"{where}: not valid UTF-8 at byte {error.start + 1}") from None
    try:
        tokens = json.loads(text)
    except RecursionError:
        raise _UsageError(f"{where}: nested too deeply; must be a JSON array of strings") from None
    except ValueError as error:
        raise _UsageError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise _UsageError(f"{where}: must be a JSON array of strings")
    try:
        # A pair of surrogates may have been cut apart into two tokens; together they are a character.
        joined = "".join(tokens)
        joined.encode()
    except UnicodeEncodeError:
        raise _UsageError(f"{where}: holds half of a surrogate pair, which is no character") from None
    return tokens


def _plain(chunks: Iterable[Chunk]) -> list[dict[str, str]]:
    return [{"text": chunk.text, "reason": chunk.reason.value} for chunk in chunks]


def _show(chunks: list[Chunk], target: TextIO, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps({"chunks": _plain(chunks)}, ensure_ascii=False)
        target.buffer.write(line.encode() + b"\n")
        return
    if not chunks:
        target.buffer.write(b"nothing to say\n")
    for chunk in chunks:
        line = f"{chunk.index:>3}  {len(chunk.text):>4} chars  {chunk.reason.value:<8}  {chunk.text!r}\n"
        target.buffer.write(line.encode())
    for reason in dict.fromkeys(chunk.reason.value for chunk in chunks):
        target.buffer.write(f"{reason}: {_WHY[reason]}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
