"""The waveform decoder of a VITS (HiFi-GAN), window by window: the same samples as for all frames at once.

A sample depends on some frames on each side. Each layer needs less around what it gives than the one before
it, and most of that is needed by the first: 13 of 14 frames for the usual model. So each layer gets just what
the layers behind it need of it, and a window of 26 frames costs about what 30 cost.

    frames       ......|<-context->|<---- window ---->|<-context->|.....
    conv, ups      ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
    resblocks           ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
    …, samples                     ~~~~~~~~~~~~~~~~~~

Where the text ends within a window's context there is nothing, and nothing must come out of it: what stands
there is set to zero before every convolution, as if the frames ended there. So windows at the end have the
shape of all others, and items of different lengths share a batch. Without that the layers' biases leak out of
the padding into the last frames.

J. Kong, J. Kim, J. Bae: HiFi-GAN, 2020, https://arxiv.org/abs/2010.05646
"""

from typing import Any, Final, NamedTuple

from torch.nn import functional

_SLOPE: Final = 0.1  # of the leaky rectifiers, but for the last, which has torch's own


class Span(NamedTuple):
    """Positions, from `start` to before `end`, counted from the first one of the window."""

    start: int
    end: int


class Stage(NamedTuple):
    """What one upsampling and the blocks behind it take and give, in positions of their own rate."""

    given: Span
    """Of the stage before."""
    raised: Span
    """Behind the upsampling."""
    kept: Span
    """Behind the blocks."""
    rate: int
    """Positions a frame, behind the upsampling."""


class Plan(NamedTuple):
    """The spans of one shape of window."""

    frames: Span
    """That are taken; from 0 where the window is the first."""
    stages: tuple[Stage, ...]
    last: Span
    """Behind the last stage."""


class WindowedDecoder:
    """See the module.

    Args:
        decoder: The library's `HifiganGenerator`, on its device and without weight norm.

    Raises:
        ValueError: Its layers do not fit together so that windows could be exact.

    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.hop = 1
        for layer in decoder.ups:
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            if kernel - stride != 2 * padding:
                raise ValueError(f"an upsampling by {stride} has the kernel {kernel}: lengths do not fit")
            self.hop *= stride
        self._dtype = decoder.conv_pre.weight.dtype
        middle = self.plan(1, first=False)
        self.context = max(-middle.frames.start, middle.frames.end - 1)
        """Frames on each side that a sample depends on."""

    def plan(self, frames: int, *, first: bool) -> Plan:
        """Return the spans for a window that gives `frames`."""
        decoder = self._decoder
        span = last = _widen(Span(0, frames * self.hop), decoder.conv_post.padding[0], first=first)
        stages: list[Stage] = []
        rate = self.hop
        for number in reversed(range(decoder.num_upsamples)):
            layer = decoder.ups[number]
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            raised = _widen(span, self._block_reach(number), first=first)
            start = -((kernel - 1 - padding - raised.start) // stride)
            given = Span(max(0, start) if first else start, (raised.end - 1 + padding) // stride + 1)
            stages.insert(0, Stage(given, raised, span, rate))
            span = given
            rate //= stride
        return Plan(_widen(span, decoder.conv_pre.padding[0], first=first), tuple(stages), last)

    def decode(self, frames: Any, room: Any, condition: Any, plan: Plan) -> Any:
        """Return the samples of a batch of windows.

        Args:
            frames: [B, C, T] latent frames of `plan.frames`; anything where there are none.
            room: None where every frame is there. Else [B, 2]: how many frames of the text stand before
                each window, and how many from its first one on.
            condition: [B, G, 1] of the speaker, or None.
            plan: Of the shape.

        Returns:
            [B, samples] from -1 to 1, in fp32.

        """
        decoder = self._decoder
        mask = _Mask(room, self._dtype)
        x = decoder.conv_pre(mask(frames.to(self._dtype), plan.frames, 1))
        if hasattr(decoder, "cond_layer"):
            x = x + decoder.cond_layer(condition.to(self._dtype))
        span, rate = plan.frames, 1
        for number, stage in enumerate(plan.stages):
            x, span = _crop(x, span, stage.given), stage.given
            x = decoder.ups[number](mask(functional.leaky_relu(x, _SLOPE), span, rate))
            stride = stage.rate // rate
            span, rate = Span(span.start * stride, span.end * stride), stage.rate
            x, span = _crop(x, span, stage.raised), stage.raised
            if decoder.cond_in_each_up_layer:
                x = x + decoder.conds[number](condition.to(self._dtype))
            blocks = decoder.resblocks[number * decoder.num_kernels : (number + 1) * decoder.num_kernels]
            total = None
            for block in blocks:
                out = _block(block, x, mask, span, rate)
                total = out if total is None else total + out
            x, span = _crop(total / decoder.num_kernels, span, stage.kept), stage.kept
        x = decoder.conv_post(mask(functional.leaky_relu(x), span, rate))
        samples = (plan.stages[-1].kept.end - decoder.conv_post.padding[0]) // self.hop * self.hop
        return _crop(x, span, Span(0, samples))[:, 0].float().tanh()

    def _block_reach(self, number: int) -> int:
        """Return how far the blocks of a stage look to each side, in positions behind its upsampling."""
        count = self._decoder.num_kernels
        return max(
            sum(int(layer.padding[0]) for layer in _convolutions(block))
            for block in self._decoder.resblocks[number * count : (number + 1) * count]
        )


class _Mask:
    """Sets to zero what stands outside the text."""

    def __init__(self, room: Any, dtype: Any) -> None:
        self._room = room
        self._dtype = dtype
        self._known: dict[tuple[Span, int], Any] = {}

    def __call__(self, x: Any, span: Span, rate: int) -> Any:
        if self._room is None:
            return x
        mask = self._known.get((span, rate))
        if mask is None:
            import torch  # noqa: PLC0415 - at the top it would be a second name for the same

            at = torch.arange(span.start, span.end, device=x.device)
            before, behind = self._room[:, :1] * rate, self._room[:, 1:] * rate
            mask = ((at >= -before) & (at < behind)).to(self._dtype).unsqueeze(1)
            self._known[span, rate] = mask
        return x * mask


def _block(block: Any, x: Any, mask: _Mask, span: Span, rate: int) -> Any:
    if not hasattr(block, "convs1"):
        for layer in block.convs:
            x = layer(mask(functional.leaky_relu(x, _SLOPE), span, rate)) + x
        return x
    for one, two in zip(block.convs1, block.convs2, strict=True):
        y = one(mask(functional.leaky_relu(x, _SLOPE), span, rate))
        x = two(mask(functional.leaky_relu(y, _SLOPE), span, rate)) + x
    return x


def _convolutions(block: Any) -> list[Any]:
    return [*block.convs1, *block.convs2] if hasattr(block, "convs1") else list(block.convs)


def _widen(span: Span, reach: int, *, first: bool) -> Span:
    return Span(max(0, span.start - reach) if first else span.start - reach, span.end + reach)


def _crop(x: Any, span: Span, to: Span) -> Any:
    return x if span == to else x[:, :, to.start - span.start : to.end - span.start]
