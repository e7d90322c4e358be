"""The scripts that keep leases in Redis, and how questions, answers and mail are written for them.

KEYS of every script: 1 the entry, 2 the record (a hash), 3 its audio (a string), 4 its words (a list).
ARGV of every script: 1 this replica, 2 the token, 3 hold_ms, 4 `KEEP_MS`, 5 what mailboxes begin with.

EVAL, not EVALSHA: the scripts are short, and a Redis that was restarted does not know them. They send
mail themselves, so that what a replica hears comes in the order in which it happened.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from services.cache import codec
from services.cache.records import (
    KEEP_MS,
    Answer,
    Condemn,
    Condemned,
    Done,
    Gone,
    Held,
    Kept,
    Look,
    Mail,
    Piece,
    Push,
    Question,
    Stale,
    Store,
    Taken,
    Wanted,
    Yield,
)
from services.cache.values import AudioFormat, WordTiming

PREFIX: Final = "voicemesh:lease:"
MAILBOX: Final = "voicemesh:lease-mail:"
_PARTS: Final = (":audio", ":words")

_COMMON: Final = """
local entry, record, sound, words = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, token, hold, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local kind = redis.call('TYPE', record).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', record, sound, words) end
local had = redis.call('HMGET', record, 'token', 'generation', 'replica', 'state', 'followers', 'format',
  'trace')
local function mail(event, rest)
  local message = event .. ' ' .. entry .. ' ' .. had[2] .. rest
  for replica in string.gmatch(had[5], '%S+') do
    if replica ~= me then redis.call('PUBLISH', ARGV[5] .. replica, message) end
  end
end
local function wanted()
  for replica in string.gmatch(had[5], '%S+') do
    if replica ~= me then return 1 end
  end
  return 0
end
local function follow()
  if not string.find(had[5], me .. ' ', 1, true) then
    redis.call('HSET', record, 'followers', had[5] .. me .. ' ')
  end
end
local function live(ms)
  redis.call('PEXPIRE', record, ms)
  redis.call('PEXPIRE', sound, ms)
  redis.call('PEXPIRE', words, ms)
end
"""

# What only the holder may do: its token is the one that counts.
_OWN: Final = """
if not had[1] then return {'gone'} end
if had[4] == 'condemned' then return {'condemned'} end
if had[1] ~= token or had[4] ~= 'held' then return {'stale'} end
"""

# ARGV: 6 generation, 7 bytes that the caller has, 8 words, 9 whether to forget what is there, 10 its trace,
# 11 most bytes of an answer: whatever somebody made of a record, nobody is sent more.
_LOOK: Final = (
    _COMMON
    + """
if redis.call('EXISTS', entry) == 1 then return {'entry'} end
local generation, have, have_words = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
if had[1] and ARGV[9] == '1' then
  mail('condemned', '')
  had[1] = false
elseif had[1] and had[4] == 'condemned' then
  if generation ~= '' then return {'condemned'} end
  had[1] = false
elseif had[1] and generation ~= '' and generation ~= had[2] then
  return {'condemned'}
end
if not had[1] then
  if generation == '' then generation = token end
  redis.call('DEL', record, sound, words)
  redis.call('HSET', record, 'token', token, 'generation', generation, 'replica', me,
    'state', 'held', 'followers', '', 'format', '', 'trace', ARGV[10])
  live(hold + keep)
  return {'taken', generation, 0, 0, '', '', {}, 0}
end
local from = math.min(have, redis.call('STRLEN', sound))
local words_from = math.min(have_words, redis.call('LLEN', words))
local rest = redis.call('GETRANGE', sound, from, -1)
local rest_words = redis.call('LRANGE', words, words_from, -1)
local size = #rest + #had[2] + #(had[6] or '') + #(had[7] or '')
for _, word in ipairs(rest_words) do size = size + #word end
if size > tonumber(ARGV[11]) then
  redis.call('DEL', record, sound, words)
  return {'condemned'}
end
local left = redis.call('PTTL', record) - keep
if had[4] == 'held' and left > 0 and had[3] ~= me then
  follow()
  redis.call('PUBLISH', ARGV[5] .. had[3], 'wanted ' .. entry .. ' ' .. had[2])
  return {'held', had[2], from, words_from, had[6], rest, rest_words, left, had[7] or ''}
end
redis.call('HSET', record, 'token', token, 'replica', me, 'state', 'held', 'trace', ARGV[10])
live(hold + keep)
mail('taken', '')
return {'taken', had[2], from, words_from, had[6], rest, rest_words, wanted()}
"""
)

# ARGV: 6 where the audio begins, 7 the audio, 8 words in front, 9 the format, 10… the words.
_PUSH: Final = (
    _COMMON
    + _OWN
    + """
live(hold + keep)
local length, count = redis.call('STRLEN', sound), redis.call('LLEN', words)
local at, words_at = tonumber(ARGV[6]), tonumber(ARGV[8])
if length < at or count < words_at or ARGV[9] == '' then return {'kept', length, count, wanted()} end
local new = string.sub(ARGV[7], length - at + 1)
if #new > 0 then length = redis.call('APPEND', sound, new) end
for index = 10 + count - words_at, #ARGV do count = redis.call('RPUSH', words, ARGV[index]) end
if had[6] == '' then redis.call('HSET', record, 'format', ARGV[9]) end
live(hold + keep)
local timings = '[' .. table.concat(ARGV, ',', 10) .. ']'
mail('piece', table.concat({'', ARGV[6], ARGV[8], ARGV[9], #timings}, ' ') .. '\\n' .. timings .. ARGV[7])
return {'kept', length, count, wanted()}
"""
)

# ARGV: 6 the value, 7 its lifetime, 8 bytes of audio, 9 words, 10 its tags.
_STORE: Final = (
    _COMMON
    + _OWN
    + """
redis.call('SET', entry, ARGV[6], 'PX', ARGV[7])
redis.call('DEL', record, sound, words)
mail('stored', ' ' .. ARGV[8] .. ' ' .. ARGV[9] .. '\\n' .. ARGV[10])
return {'done'}
"""
)

# ARGV: 6 bytes that followers must have, 7 whether to follow.
_YIELD: Final = (
    _COMMON
    + _OWN
    + """
if wanted() == 0 and ARGV[7] ~= '1' then
  redis.call('DEL', record, sound, words)
  return {'done'}
end
if redis.call('STRLEN', sound) < tonumber(ARGV[6]) then return {'wanted'} end
redis.call('HSET', record, 'state', 'yielded')
if ARGV[7] == '1' then follow() end
live(keep)
mail('yielded', '')
return {'done'}
"""
)

_CONDEMN: Final = (
    _COMMON
    + """
if not had[1] then return {'gone'} end
redis.call('HSET', record, 'state', 'condemned')
redis.call('DEL', sound, words)
redis.call('PEXPIRE', record, keep)
mail('condemned', '')
redis.call('PUBLISH', ARGV[5] .. had[3], 'condemned ' .. entry .. ' ' .. had[2])
return {'done'}
"""
)


def command(question: Question, replica: str, hold_ms: int, most_bytes: int) -> tuple[str | bytes | int, ...]:
    """Return the command that puts `question` to Redis, for `replica`; answers have `most_bytes` at most."""
    script, arguments = _script(question, most_bytes)
    token = "" if isinstance(question, Condemn) else question.token
    record = PREFIX + question.name
    keys = (question.name, record, *(record + part for part in _PARTS))
    return ("EVAL", script, len(keys), *keys, replica, token, hold_ms, KEEP_MS, MAILBOX, *arguments)


def _script(question: Question, most_bytes: int) -> tuple[str, tuple[str | bytes | int, ...]]:
    if isinstance(question, Look):
        have = (question.have, question.have_words)
        rest = (int(question.fresh), question.traceparent, most_bytes)
        return _LOOK, (question.generation, *have, *rest)
    if isinstance(question, Push):
        piece = question.piece
        form = "" if piece.format is None else _form(piece.format)
        words = tuple(json.dumps(_word(word), ensure_ascii=False) for word in piece.words)
        return _PUSH, (piece.at, piece.audio, piece.words_at, form, *words)
    if isinstance(question, Store):
        value = question.value
        tags = json.dumps(value.tags)
        return _STORE, (
            codec.encode(value, question.name),
            question.ttl_ms,
            len(value.audio),
            len(value.words),
            tags,
        )
    if isinstance(question, Yield):
        return _YIELD, (question.length, int(question.stay))
    return _CONDEMN, ()


def name_of(record: str) -> str:
    """Return the name of the entry that a record, or a part of it, belongs to."""
    for part in _PARTS:
        record = record.removesuffix(part)
    return record.removeprefix(PREFIX)


def answer_of(reply: Sequence[Any]) -> Answer | None:
    """Return the answer that a script's reply stands for; None where the entry exists.

    Raises:
        ValueError: It is none.

    """
    try:
        return _answer(reply)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        raise ValueError("not the answer of a script of ours") from None


def _answer(reply: Sequence[Any]) -> Answer | None:
    match [bytes(reply[0]).decode(), *reply[1:]]:
        case ["entry"]:
            return None
        case ["held", generation, at, words_at, form, audio, words, left_ms, trace]:
            piece = _piece(at, words_at, form, audio, list(map(json.loads, words)))
            return Held(generation.decode(), piece, codec.checked_count(max(left_ms, 0)), trace.decode())
        case ["taken", generation, at, words_at, form, audio, words, wanted]:
            piece = _piece(at, words_at, form, audio, list(map(json.loads, words)))
            return Taken(generation.decode(), piece, bool(wanted))
        case ["kept", length, words, wanted]:
            return Kept(codec.checked_count(length), codec.checked_count(words), bool(wanted))
        case [("done" | "wanted" | "stale" | "gone" | "condemned") as name]:
            simple: dict[str, Answer] = {"done": Done(), "wanted": Wanted(), "stale": Stale(), "gone": Gone()}
            return simple.get(name, Condemned())
        case _:
            raise ValueError(reply[0])


def mail_of(data: bytes, most_bytes: int) -> Mail:
    """Return what a mailbox got, of `most_bytes` at most.

    Raises:
        ValueError: It is no mail of ours.

    """
    if len(data) > most_bytes:
        raise ValueError("longer than any mail of a lease")
    try:
        return _mail(data)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("not mail of a lease") from None


def _mail(data: bytes) -> Mail:
    header, _, body = data.partition(b"\n")
    match header.decode().split(" "):
        case [("wanted" | "yielded" | "taken" | "condemned") as event, name, generation]:
            return Mail(event, name, generation)
        case ["stored", name, generation, length, words]:
            tags = tuple(map(codec.checked_text, json.loads(body)))
            return Mail("stored", name, generation, _piece(int(length), int(words), b"", b"", ()), tags)
        case ["piece", name, generation, at, words_at, encoding, rate, channels, timings_bytes]:
            split = int(timings_bytes)
            form = f"{encoding} {rate} {channels}".encode()
            timings = json.loads(body[:split])
            return Mail(
                "piece", name, generation, _piece(int(at), int(words_at), form, body[split:], timings)
            )
        case _:
            raise ValueError(header)


def _piece(at: int, words_at: int, form: bytes, audio: bytes, timings: Sequence[object]) -> Piece:
    if not isinstance(audio, bytes):
        raise TypeError("not audio")
    given = None if not form else codec.checked_format(*map(int, form.decode().split(" ")))
    words = tuple(map(_timing, timings))
    return Piece(codec.checked_count(at), codec.checked_count(words_at), given, audio, words)


def _form(form: AudioFormat) -> str:
    return f"{form.encoding} {form.sample_rate_hz} {form.channels}"


def _word(word: WordTiming) -> list[str | int | bool]:
    return [word.word, word.text_offset, word.text_length, word.offset_samples, word.estimated]


def _timing(fields: object) -> WordTiming:
    match fields:
        case [word, at, length, offset, estimated]:
            return codec.checked_word(word, at, length, offset, estimated)
        case _:
            raise ValueError("not a word's timing")
