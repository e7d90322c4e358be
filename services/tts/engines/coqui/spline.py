"""Durations as a VITS draws them: its stochastic duration predictor, with the noise as an argument.

The library's own forward draws its noise from the one global generator, for a whole batch, and selects what
is within the spline's bounds by a mask, which makes a GPU wait for the CPU four times. Here the noise comes
per item, everything is computed and `where` selects.

C. Durkan, A. Bekasov, I. Murray, G. Papamakarios: Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032,
equations 4 to 8: the inverse of a monotonic rational-quadratic spline with linear tails.
"""

import math
from typing import Any, Final

import torch
from torch.nn import functional

# As the library's `transforms` has them: a model is trained with them.
_LEAST_WIDTH: Final = 1e-3
_LEAST_HEIGHT: Final = 1e-3
_LEAST_SLOPE: Final = 1e-3
_EDGE: Final = 1e-6


def draw_durations(predictor: Any, x: Any, mask: Any, noise: Any, condition: Any, language: Any) -> Any:
    """Return the logarithm of each token's frames: the predictor's `forward(reverse=True)`.

    Args:
        predictor: The library's `StochasticDurationPredictor`.
        x: [B, C, T] text features.
        mask: [B, 1, T] 1 where there is a token.
        noise: [B, 2, T] normal noise, scaled.
        condition: [B, G, 1] of the speaker, or None.
        language: [B, L, 1] of the language, or None.

    """
    x = predictor.pre(x)
    if condition is not None:
        x = x + predictor.cond(condition)
    if language is not None:
        x = x + predictor.cond_lang(language)
    x = predictor.proj(predictor.convs(x, mask)) * mask
    # The flows behind the first two of the order of training: one of them is of no use for speaking.
    first, _, *others = predictor.flows
    z = noise
    for flow in reversed(others):
        z = _flow(flow, torch.flip(z, [1]), mask, x)
    return first(torch.flip(z, [1]), mask, reverse=True)[:, :1]


def _flow(flow: Any, z: Any, mask: Any, x: Any) -> Any:
    kept, moved = z.split([flow.half_channels] * 2, 1)
    h = flow.proj(flow.convs(flow.pre(kept), mask, g=x)) * mask
    batch, channels, length = kept.shape
    h = h.reshape(batch, channels, -1, length).permute(0, 1, 3, 2)
    widths, heights, slopes = h.split([flow.num_bins, flow.num_bins, h.shape[-1] - 2 * flow.num_bins], -1)
    scale = math.sqrt(flow.hidden_channels)
    moved = _spline_inverse(moved, widths / scale, heights / scale, slopes, flow.tail_bound)
    return torch.cat([kept, moved], 1) * mask


def _spline_inverse(y: Any, widths: Any, heights: Any, slopes: Any, bound: float) -> Any:
    within = (y >= -bound) & (y <= bound)
    inside = y.clamp(-bound, bound)
    # Beyond the outer knots the spline goes on as a line of slope 1.
    outer = math.log(math.exp(1 - _LEAST_SLOPE) - 1)
    slopes = _LEAST_SLOPE + functional.softplus(functional.pad(slopes, (1, 1), value=outer))
    left, width = _knots(widths, _LEAST_WIDTH, bound)
    bottom, height = _knots(heights, _LEAST_HEIGHT, bound)
    edges = torch.cat([bottom, torch.full_like(bottom[..., :1], bound + _EDGE)], -1)
    at = ((inside[..., None] >= edges).sum(-1, keepdim=True) - 1).clamp(0, width.shape[-1] - 1)

    def chosen(values: Any) -> Any:
        return values.gather(-1, at)[..., 0]

    w, h, slope = chosen(width), chosen(height), chosen(slopes)
    steep = chosen(height / width)
    rise = inside - chosen(bottom)
    bend = slope + chosen(slopes[..., 1:]) - 2 * steep
    a = rise * bend + h * (steep - slope)
    b = h * slope - rise * bend
    c = -steep * rise
    root = 2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp_min(0)))
    return torch.where(within, root * w + chosen(left), y)


def _knots(raw: Any, least: float, bound: float) -> tuple[Any, Any]:
    """Return where each bin begins, and its size."""
    sizes = least + (1 - least * raw.shape[-1]) * functional.softmax(raw, dim=-1)
    edges = functional.pad(torch.cumsum(sizes, -1), (1, 0))
    edges = 2 * bound * edges - bound
    edges[..., 0], edges[..., -1] = -bound, bound
    return edges[..., :-1], edges[..., 1:] - edges[..., :-1]
