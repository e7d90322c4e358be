"""CUDA graphs: a stage is recorded once for each shape and replayed, some hundred kernels by one launch.

A graph reads and writes the memory that it was recorded with. So inputs are copied into that memory before a
replay, and outputs hold until the next one. On a CPU nothing is recorded and stages are plain calls.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch

_WARM_UPS: Final = 3


class _Recorded(NamedTuple):
    graph: Any
    inputs: Sequence[Any]
    outputs: Any


class Graphs:
    """The recorded stages of one model.

    Args:
        device: Where it computes.

    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self.recording = device.type == "cuda"
        """True where `record` records."""
        self._recorded: dict[tuple[Any, int], _Recorded] = {}
        self._pool: Any = torch.cuda.graph_pool_handle() if self.recording else None

    def batch(self, key: Any, items: int) -> int:
        """Return for how many items `key` is to be run: the recorded batch that has room for `items`."""
        known = [size for other, size in self._recorded if other == key and size >= items]
        return min(known, default=items)

    def record(self, key: Any, batch: int, function: Callable[..., Any], inputs: Sequence[Any]) -> None:
        """Run `function` with `inputs`; on a GPU record it for this shape, unless it is already."""
        if not self.recording:
            function(*inputs)
            return
        if (key, batch) in self._recorded:
            return
        static = [None if value is None else value.clone() for value in inputs]
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*static)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = function(*static)
        self._recorded[key, batch] = _Recorded(graph, static, outputs)

    def run(self, key: Any, batch: int, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Return what `function` gives for `inputs`; from a graph where there is one for this shape."""
        known = self._recorded.get((key, batch))
        if known is None:
            return function(*inputs)
        for static, value in zip(known.inputs, inputs, strict=True):
            if static is not None:
                static.copy_(value, non_blocking=True)
        known.graph.replay()
        return known.outputs
