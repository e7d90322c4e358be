"""The weights of a checkpoint: read without executing anything, and looked at before anybody speaks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

from services.tts.engines.base import OptionsError
from services.tts.engines.loading import loading

_MOST_CHARS: Final = 400
"""Of a reason: torch lists every weight that is missing."""
_RANDOM: Final = frozenset(
    {
        "kaiming_normal_",
        "kaiming_uniform_",
        "normal_",
        "orthogonal_",
        "trunc_normal_",
        "uniform_",
        "xavier_normal_",
        "xavier_uniform_",
    }
)
"""By name: transformers puts functions of its own in the place of torch's."""


def read_weights(checkpoint: Path) -> dict[str, Any]:
    """Return the weights of a checkpoint, on the CPU: name, tensor.

    Raises:
        OptionsError: It is no checkpoint, needs code to be executed, or has weights that are no numbers.

    """
    saved = read_saved(checkpoint)
    weights = saved.get("model", saved) if isinstance(saved, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise OptionsError(f"option model: {checkpoint} holds no weights (`model`: a tensor for each name)")
    check_finite(weights, checkpoint)
    return weights


def read_saved(checkpoint: Path) -> Any:
    """Return what a file holds: tensors and plain values.

    Raises:
        OptionsError: It cannot be read, or needs code to be executed.

    """
    loading(f"the weights of {checkpoint.name}")
    try:
        return torch.load(str(checkpoint), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - of pickle, zip files and torch, in many ways
        raise OptionsError(
            f"option model: {checkpoint} cannot be read as weights alone: {reason(error)}"
        ) from None


def check_finite(weights: dict[str, Any], checkpoint: Path) -> None:
    """Look at every number: a model that is broken would speak silence.

    Raises:
        OptionsError: One is NaN or infinite.

    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise OptionsError(f"option model: {checkpoint} is broken: {name} has NaN or infinity in it")


def reason(error: Exception) -> str:
    """Return what an error says, on one line that can be read."""
    said = " ".join(str(error).split())
    short = said if len(said) <= _MOST_CHARS else f"{said[:_MOST_CHARS]} …"
    return f"{type(error).__name__}: {short}"


class without_random_weights(TorchFunctionMode):  # noqa: N801 - a context manager, written as a function
    """Makes modules whose weights are not drawn: they are loaded next, and drawing takes longer than that.

    Every weight must be loaded afterwards (`load_state_dict`, strict): it holds whatever memory held.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is where it would be filled at random."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
