"""Profiles of turns that are longer than those that were measured."""

from dataclasses import replace

from voicemesh.capacity.profile import PROCESSES, ChunkSample, Kind, Profile, TurnSample


def stretched(profile: Profile, audio_s: float) -> Profile:
    """Return `profile` with turns of `audio_s` seconds of audio in the mean.

    The way to the first frame stays. Turns have more chunks, or fewer, like those behind their first one; CPU
    time behind the first frame goes with the audio. What the cache gives is as long as what is made.
    """
    factor = audio_s / profile.made.audio_s
    made = Kind(_cpu_ms(profile.made, factor), [_turn(turn, factor) for turn in profile.made.turns])
    cached = profile.cached
    if cached is not None:
        cached = Kind(_cpu_ms(cached, factor), cached.turns)
    return replace(profile, made=made, cached=cached)


def _cpu_ms(kind: Kind, factor: float) -> dict[str, float]:
    path = kind.path_ms
    found = {}
    for name in PROCESSES:
        if name in kind.cpu_ms:
            fixed = min(path[name], kind.cpu_ms[name])
            found[name] = fixed + factor * (kind.cpu_ms[name] - fixed)
    return found


def _turn(turn: TurnSample, factor: float) -> TurnSample:
    if not turn.chunks:
        return turn
    wanted_ms = factor * turn.audio_ms
    # A first chunk is cut short so that it is heard soon: what is repeated are those behind it, if any.
    again = turn.chunks[1:] or turn.chunks
    chunks, have_ms, asked_ms = [turn.chunks[0]], turn.chunks[0].audio_ms, 0.0
    place = 0
    while have_ms < wanted_ms:
        next_ = again[place % len(again)]
        pause_ms = next_.asked_ms - (again[place % len(again) - 1].asked_ms if place % len(again) else 0.0)
        asked_ms += max(0.0, pause_ms)
        chunks.append(replace(next_, asked_ms=asked_ms))
        have_ms += next_.audio_ms
        place += 1
    if have_ms > wanted_ms:
        last = chunks[-1]
        chunks[-1] = _cut(last, 1 - (have_ms - wanted_ms) / last.audio_ms)
    return replace(turn, chunks=tuple(chunks))


def _cut(chunk: ChunkSample, share: float) -> ChunkSample:
    rest_ms = (chunk.lease_ms - chunk.first_ms) * share
    return replace(chunk, audio_ms=chunk.audio_ms * share, lease_ms=chunk.first_ms + rest_ms)
