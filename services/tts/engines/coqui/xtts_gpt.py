"""The GPT of XTTS as steps over many utterances, with a place for each one's past.

The library's own loop (`GPT.get_generator`) runs one text at a time, draws from torch's global generator
and allocates each token's past anew. Here the same weights are run by hand:

    slot 0  | past of utterance A : keys and values of every layer, `most` positions |
    slot 1  | past of utterance B                                                    |
    …

`begin` writes the past of speaker and text into a slot, `advance` adds a token to some slots. On a GPU
`advance` computes **every** slot each time, used or not: the shapes never change, each row is a sum of its
own, and so an utterance has the same tokens whoever speaks beside it. A CPU gains nothing by that; there
each slot is computed alone, and only as far as its past goes.

A row that is computed without being asked for writes only where its next real token will write, the same
values again. So rows need no mask.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

_SPAN = 64
"""Prefixes are padded to whole spans, so that there are few shapes."""


class Scores(NamedTuple):
    """What one step gives of one utterance."""

    scores: list[float]
    """Of the best tokens, from the best downwards, repetition penalty applied."""
    tokens: list[int]
    """Those tokens."""
    latent: Any
    """float32 tensor (channels): what the decoder makes audio of, for the token drawn before."""


class _Layer(NamedTuple):
    norm_1: tuple[Any, Any, float]
    qkv: tuple[Any, Any]
    merge: tuple[Any, Any]
    norm_2: tuple[Any, Any, float]
    widen: tuple[Any, Any]
    narrow: tuple[Any, Any]


class XttsGpt:
    """See the module.

    Args:
        gpt: The library's `TTS.tts.layers.xtts.gpt.GPT`, loaded. Weights are shared where `dtype` is theirs.
        speaker_length: Positions of the longest speaker latents.
        slots: Utterances that may be at work at once.
        dtype: float32, or a half precision.
        device: Where.
        together: Whether `advance` computes all slots, whichever are asked for.

    """

    def __init__(
        self,
        gpt: Any,
        *,
        speaker_length: int,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
        together: bool,
    ) -> None:
        self.stop_token: int = gpt.stop_audio_token
        self.most_tokens: int = gpt.max_gen_mel_tokens
        """The library stops there too, in the middle of a word."""
        self.most_text_tokens: int = gpt.max_text_tokens - 2
        self.slots = slots
        self._together = together
        self._dtype, self._device = dtype, device
        self._heads: int = gpt.heads
        self._width: int = gpt.model_dim
        self._start_text: int = gpt.start_text_token
        self._stop_text: int = gpt.stop_text_token
        self._start_token: int = gpt.start_audio_token

        def moved(*tensors: Any) -> tuple[Any, ...]:
            return tuple(tensor.detach().to(device, dtype) for tensor in tensors)

        def norm(module: Any) -> tuple[Any, Any, float]:
            weight, bias = moved(module.weight, module.bias)
            return weight, bias, module.eps

        def dense(module: Any) -> tuple[Any, Any]:  # GPT-2's own: weight (in, out)
            weight, bias = moved(module.weight, module.bias)
            return weight, bias

        self._layers = [
            _Layer(
                norm(block.ln_1),
                dense(block.attn.c_attn),
                dense(block.attn.c_proj),
                norm(block.ln_2),
                dense(block.mlp.c_fc),
                dense(block.mlp.c_proj),
            )
            for block in gpt.gpt.h
        ]
        self._norm = norm(gpt.gpt.ln_f)
        self._final_norm = norm(gpt.final_norm)
        self._head = moved(gpt.mel_head.weight.t(), gpt.mel_head.bias)
        self._text, self._tokens = moved(gpt.text_embedding.weight, gpt.mel_embedding.weight)
        self._text_places, self._places = moved(
            gpt.text_pos_embedding.emb.weight, gpt.mel_pos_embedding.emb.weight
        )
        self._most = self._padded(speaker_length + gpt.max_text_tokens + 1) + self.most_tokens
        shape = (len(self._layers), 2, slots, self._heads, self._most, self._width // self._heads)
        self._past = torch.zeros(shape, dtype=dtype, device=device)
        self._lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self._drawn = torch.zeros(slots, dtype=torch.long, device=device)
        self._count = torch.zeros(slots, dtype=torch.long, device=device)
        self._seen = torch.zeros((slots, self._tokens.shape[0]), dtype=torch.bool, device=device)
        self._rows = torch.arange(slots, device=device)
        self._columns = torch.arange(self._most, device=device)
        self._used = [0] * slots

    def text_size(self, speaker_length: int, text_tokens: int) -> int:
        """Return the size class of a prefix, in positions."""
        return self._padded(speaker_length + text_tokens + 3)

    @staticmethod
    def _padded(length: int) -> int:
        return -(-length // _SPAN) * _SPAN

    @torch.inference_mode()
    def begin(
        self, slot: int, speaker: torch.Tensor, text: Sequence[int], top_k: int, penalty: float
    ) -> Scores:
        """Fill `slot` with speaker, text and the start token; return the first scores.

        Args:
            slot: Where; what was there is forgotten.
            speaker: (positions, channels).
            text: At most `most_text_tokens`.
            top_k: How many scores are returned.
            penalty: Of repetition.

        """
        ids = torch.tensor([self._start_text, *text, self._stop_text], device=self._device)
        spoken = self._text[ids] + self._text_places[: len(ids)]
        start = self._tokens[self._start_token] + self._places[0]
        x = torch.cat((speaker.to(self._device, self._dtype), spoken, start[None]))
        length = len(x)
        # Positions behind the last are padding: nobody looks at them, and tokens will be written over them.
        x = functional.pad(x, (0, 0, 0, self._padded(length) - length))[None]
        for number, layer in enumerate(self._layers):
            query, key, value = self._qkv(layer, x)
            self._past[number, 0, slot, :, : key.shape[2]] = key[0]
            self._past[number, 1, slot, :, : value.shape[2]] = value[0]
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = self._after(layer, x, mixed)
        self._lengths[slot] = self._used[slot] = length
        self._count[slot] = 1
        self._seen[slot] = False
        # The library's prefix is a row of ones to its penalty, so the token 1 is always one that was.
        self._seen[slot, 1] = True
        self._seen[slot, self._start_token] = True
        return self._scores(x[:, length - 1], slice(slot, slot + 1), top_k, penalty)[0]

    @torch.inference_mode()
    def advance(self, drawn: dict[int, int], top_k: int, penalty: float) -> dict[int, Scores]:
        """Add a token to each slot of `drawn`; return the next scores by slot."""
        for slot, token in drawn.items():
            self._drawn[slot] = token
        if self._together:
            scores = self._advance(slice(None), None, top_k, penalty)
            found = {slot: scores[slot] for slot in drawn}
        else:
            found = {}
            for slot in drawn:
                (found[slot],) = self._advance(slice(slot, slot + 1), self._used[slot], top_k, penalty)
        for slot in drawn:
            self._lengths[slot] += 1
            self._count[slot] += 1
            self._used[slot] += 1
        return found

    def _advance(self, rows: slice, used: int | None, top_k: int, penalty: float) -> list[Scores]:
        tokens, lengths, row_numbers = self._drawn[rows], self._lengths[rows], self._rows[rows]
        self._seen[row_numbers, tokens] = True
        x = (self._tokens[tokens] + self._places[self._count[rows]])[:, None]
        span = self._most if used is None else used + 1
        mask = None
        if used is None:
            mask = (self._columns <= lengths[:, None])[:, None, None]
        for number, layer in enumerate(self._layers):
            query, key, value = self._qkv(layer, x)
            keys, values = self._past[number, 0], self._past[number, 1]
            keys[row_numbers, :, lengths] = key[:, :, 0]
            values[row_numbers, :, lengths] = value[:, :, 0]
            mixed = functional.scaled_dot_product_attention(
                query, keys[rows, :, :span], values[rows, :, :span], attn_mask=mask
            )
            x = self._after(layer, x, mixed)
        return self._scores(x[:, 0], rows, top_k, penalty)

    def _qkv(self, layer: _Layer, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return query, key and value, each (rows, heads, positions, channels of a head)."""
        together = _dense(_normed(x, layer.norm_1), layer.qkv)
        split = together.view(*x.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        return split[0], split[1], split[2]

    def _after(self, layer: _Layer, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = x + _dense(mixed.transpose(1, 2).reshape(x.shape), layer.merge)
        wide = functional.gelu(_dense(_normed(x, layer.norm_2), layer.widen), approximate="tanh")
        return x + _dense(wide, layer.narrow)

    def _scores(self, x: torch.Tensor, rows: slice, top_k: int, penalty: float) -> list[Scores]:
        latents = _normed(_normed(x, self._norm), self._final_norm)
        scores = _dense(latents, self._head).float()
        punished = torch.where(scores < 0, scores * penalty, scores / penalty)
        scores = torch.where(self._seen[rows], punished, scores)
        best = torch.topk(scores, min(top_k, scores.shape[-1]))
        values, tokens = best.values.tolist(), best.indices.tolist()
        return [Scores(*each) for each in zip(values, tokens, latents.float(), strict=True)]


def _normed(x: torch.Tensor, norm: tuple[Any, Any, float]) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], norm[0], norm[1], norm[2])


def _dense(x: torch.Tensor, weights: tuple[Any, ...]) -> torch.Tensor:
    flat = torch.addmm(weights[1], x.reshape(-1, x.shape[-1]), weights[0])
    return flat.view(*x.shape[:-1], -1)
