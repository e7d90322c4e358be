"""The decoder of XTTS in windows: each latent is decoded once, and a listener hears the first ones at once.

    tokens     |0|1|2|3|4|5|6|7|8|9|…            one latent each, 46 ms
    frames     ||||||||||||||||||||||||…         linear interpolation, times 4 and 24000/22050 (and / speed)
    windows    [ 16 ][   32   ][      64     ]…  decoded with `context` frames on either side, then cut

The library's `inference_stream` decodes everything so far again for each of its chunks, and fades from
one version into the next: its cost grows with the square of the length. A frame of the decoder sees only so
many frames beside it (`context_frames`), and an interpolated frame two neighbours: with these at hand a
window's samples are those of decoding the whole at once.

Where the windows lie depends on nothing but the count of frames, so a request has the same samples however
its steps are timed.
"""

import functools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

import torch

WINDOWS: Final = (16, 32, 64, 128)
"""Frames of the first windows; the last is that of all further ones."""


class Stretch:
    """Linear interpolation as `torch.nn.functional.interpolate` does it, for any part of the output.

    Its positions are computed in float32, as torch computes them: in double precision the same frame of a
    long text would be mixed otherwise.

    Args:
        scale: Output for each input.
        most: Longest input.

    """

    def __init__(self, scale: float, most: int) -> None:
        self.scale = scale
        count = self.size(most)
        step = torch.tensor(1.0 / scale, dtype=torch.float32)
        at = (step * (torch.arange(count, dtype=torch.float32) + 0.5) - 0.5).clamp_(min=0)
        self._left = at.long().clamp_(max=most - 1)
        self._share = (at - self._left).clamp_(0, 1)
        self._lefts: list[int] = self._left.tolist()

    def size(self, count: int) -> int:
        """Return the length of the output of `count` inputs."""
        return int(count * self.scale)

    def ready(self, count: int) -> int:
        """Return how many outputs `count` inputs decide, whatever follows them."""
        return bisect_left(self._lefts, count - 1)

    def sources(self, start: int, end: int) -> tuple[int, int]:
        """Return the range of inputs that the outputs from `start` to `end` are mixed of."""
        return self._lefts[start], self._lefts[end - 1] + 2

    def part(self, inputs: torch.Tensor, first: int, count: int, start: int, end: int) -> torch.Tensor:
        """Return the outputs from `start` to `end`.

        Args:
            inputs: (inputs, channels), those of `sources` at least, as far as there are.
            first: Place of the first of them.
            count: Inputs in all; the last stands for those behind it.
            start: First output.
            end: Behind the last output.

        """
        left, share = self._left[start:end], self._share[start:end]
        right = (left + 1).clamp(max=count - 1) - first
        left = left.clamp(max=count - 1) - first
        device = inputs.device
        share = share.to(device)[:, None]
        return inputs[left.to(device)] * (1 - share) + inputs[right.to(device)] * share


def context_frames(generator: Any) -> int:
    """Return how many frames to each side of a frame its samples depend on, in a HiFi-GAN generator.

    Goes back from the samples of one frame through every layer: `low` and `high` are the first and the
    last input that a layer looks at.
    """
    hop = 1
    for up in generator.ups:
        hop *= up.stride[0]
    low, high = 0, hop - 1
    low, high = low - _reach(generator.conv_post), high + _reach(generator.conv_post)
    for number in reversed(range(len(generator.ups))):
        count = generator.num_kernels
        blocks = generator.resblocks[number * count : (number + 1) * count]
        reach = max(_block_reach(block) for block in blocks)
        up = generator.ups[number]
        stride, size, padding = up.stride[0], up.kernel_size[0], up.padding[0]
        low = -((size - 1 - padding - (low - reach)) // stride)
        high = (high + reach + padding) // stride
    low, high = low - _reach(generator.conv_pre), high + _reach(generator.conv_pre)
    return max(-low, high)


def _reach(convolution: Any) -> int:
    reach: int = convolution.dilation[0] * (convolution.kernel_size[0] - 1) // 2
    return reach


def _block_reach(block: Any) -> int:
    if hasattr(block, "convs1"):
        return sum(map(_reach, block.convs1)) + sum(map(_reach, block.convs2))
    return sum(map(_reach, block.convs))


class XttsDecoder:
    """The library's `HifiDecoder`, for windows.

    Args:
        decoder: Loaded; its weight normalisation is folded into the weights.
        most_tokens: Longest text, in tokens.

    """

    def __init__(self, decoder: Any, most_tokens: int) -> None:
        self._generator = decoder.waveform_decoder
        _fold_weight_norm(self._generator)
        self.context = context_frames(self._generator)
        self.hop = 1
        for up in self._generator.ups:
            self.hop *= up.stride[0]
        self._most = most_tokens
        self._scales = [decoder.ar_mel_length_compression / decoder.output_hop_length]
        if decoder.output_sample_rate != decoder.input_sample_rate:
            self._scales.append(decoder.output_sample_rate / decoder.input_sample_rate)
        self._at_speed_1 = self._stretches(self._scales)

    def stretches(self, speed: float) -> list[Stretch]:
        """Return the interpolations from latents to frames, first to last, at a speed."""
        if speed == 1.0:
            return self._at_speed_1
        return self._stretches([1.0 / speed, *self._scales])

    def _stretches(self, scales: Sequence[float]) -> list[Stretch]:
        made, most = [], self._most
        for scale in scales:
            made.append(Stretch(scale, most))
            most = made[-1].size(most)
        return made

    @torch.inference_mode()
    def frames(
        self, stretches: Sequence[Stretch], latents: torch.Tensor, start: int, end: int
    ) -> torch.Tensor:
        """Return the frames from `start` to `end`, (channels, frames), of latents (tokens, channels)."""
        counts = [len(latents)]
        for stretch in stretches:
            counts.append(stretch.size(counts[-1]))
        ranges = [(start, min(end, counts[-1]))]
        for stretch, count in zip(reversed(stretches), reversed(counts[:-1]), strict=True):
            low, high = stretch.sources(*ranges[-1])
            ranges.append((min(low, count - 1), min(high, count)))
        ranges.reverse()
        part = latents[ranges[0][0] : ranges[0][1]]
        for number, stretch in enumerate(stretches):
            part = stretch.part(part, ranges[number][0], counts[number], *ranges[number + 1])
        return part.t()

    @torch.inference_mode()
    def decode(self, frames: torch.Tensor, speaker: torch.Tensor) -> torch.Tensor:
        """Return the samples (frames * hop) of frames (channels, frames)."""
        samples: torch.Tensor = self._generator(frames[None], g=speaker)
        return samples[0, 0]

    def window(
        self,
        stretches: Sequence[Stretch],
        latents: torch.Tensor,
        bounds: tuple[int, int],
        speaker: torch.Tensor,
    ) -> torch.Tensor:
        """Return the samples of the frames within `bounds`, decoded with their context."""
        start, end = bounds
        total = len(latents)
        for stretch in stretches:
            total = stretch.size(total)
        low, high = max(0, start - self.context), min(total, end + self.context)
        samples = self.decode(self.frames(stretches, latents, low, high), speaker)
        return samples[(start - low) * self.hop : (min(end, total) - low) * self.hop]


class Windows:
    """Which frames are decoded next, as tokens come.

    Args:
        stretches: From tokens to frames.
        context: Frames that must be there behind a window, until the last token.

    """

    def __init__(self, stretches: Sequence[Stretch], context: int) -> None:
        self._stretches = stretches
        self._context = context
        self._next = 0
        self._start = 0

    @property
    def size(self) -> int:
        """Frames of the next window, as far as there are so many."""
        return WINDOWS[min(self._next, len(WINDOWS) - 1)]

    def ready(self, tokens: int, *, complete: bool) -> tuple[int, int] | None:
        """Return the bounds of the next window, or None where it has to wait or there is none."""
        count = tokens
        for stretch in self._stretches:
            count = stretch.size(count) if complete else stretch.ready(count)
        end = self._start + self.size
        if complete:
            end = min(end, count)
            return (self._start, end) if end > self._start else None
        return (self._start, end) if end + self._context <= count else None

    def last(self, bounds: tuple[int, int], tokens: int, *, complete: bool) -> bool:
        """Return whether no window follows `bounds`."""
        return complete and bounds[1] == functools.reduce(
            lambda count, stretch: stretch.size(count), self._stretches, tokens
        )

    def passed(self, bounds: tuple[int, int]) -> None:
        """Go on behind a window."""
        self._start = bounds[1]
        self._next += 1


def _fold_weight_norm(module: torch.nn.Module) -> None:
    from torch.nn.utils import parametrize  # noqa: PLC0415 - of this alone

    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
