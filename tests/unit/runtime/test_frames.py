import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.runtime.frames import FRAME_MS, FrameSlicer, frame_samples

RATE_HZ = 22050


def pcm_of(samples: int) -> bytes:
    return b"".join((index % 30000).to_bytes(2, "little") for index in range(samples))


def slice_all(slicer: FrameSlicer, pcm: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    frames = []
    start = 0
    for cut in [*sorted(cuts), len(pcm) // 2]:
        frames += slicer.push(pcm[2 * start : 2 * cut])
        start = cut
    return frames + slicer.flush()


def test_frames_grow_from_20_to_200_ms():
    frames = slice_all(FrameSlicer(1000), pcm_of(1000), [])
    assert [len(pcm) // 2 for _, pcm in frames] == [20, 20, 40, 80, 160, 200, 200, 200, 80]


def test_no_frame_is_longer_than_the_audio_in_front_of_it():
    in_front = frame_samples(0, 1000)
    for sequence in range(1, 10):
        length = frame_samples(sequence, 1000)
        assert length <= max(in_front, FRAME_MS[0])
        in_front += length


def test_the_first_frame_leaves_with_its_last_sample():
    slicer = FrameSlicer(1000)
    assert slicer.push(pcm_of(19)) == []
    assert slicer.push(b"\1\2") == [(0, pcm_of(19) + b"\1\2")]


@given(
    samples=st.integers(0, 20000),
    cuts=st.lists(st.integers(0, 20000), max_size=8),
    skip=st.integers(0, 21000),
)
def test_frames_joined_are_the_audio_whatever_the_slicing(samples, cuts, skip):
    pcm = pcm_of(samples)
    slicer = FrameSlicer(RATE_HZ, skip)
    frames = slice_all(slicer, pcm, [min(cut, samples) for cut in cuts])
    assert b"".join(part for _, part in frames) == pcm[2 * skip :]
    assert slicer.made_samples == samples
    at = skip
    for offset, part in frames:
        assert offset == at
        assert part
        at += len(part) // 2


def test_half_a_sample_is_refused():
    with pytest.raises(ValueError, match="not whole"):
        FrameSlicer(RATE_HZ).push(b"\0\0\0")


@pytest.mark.parametrize(
    ("in_hand_ms", "first_ms"), [(0, 20), (19, 20), (39, 20), (40, 40), (199, 160), (200, 200), (9999, 200)]
)
def test_audio_in_hand_lets_the_first_frames_be_longer(in_hand_ms: int, first_ms: int) -> None:
    slicer = FrameSlicer(RATE_HZ, in_hand_ms=in_hand_ms)
    frames = slice_all(slicer, pcm_of(RATE_HZ), [])
    assert len(frames[0][1]) // 2 == RATE_HZ * first_ms // 1000
    assert b"".join(frame for _, frame in frames) == pcm_of(RATE_HZ)
