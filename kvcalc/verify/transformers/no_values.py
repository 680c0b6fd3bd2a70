"""Running on the meta device, where a tensor has a shape and no values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class NoValues(TorchDispatchMode):
    """Answers what a model asks of the values of a meta tensor as if all of them were zero.

    Which tokens an expert got (none), whether a mask has a gap, how long the longest sequence is: no cache depends on
    the answer, but a class that asks would stop. `asked` tells whether one did.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked = False

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        """Runs an operator, or answers it."""
        answer = _ANSWERS.get(func)
        if answer is not None and args[0].is_meta:
            answered = answer(*args, **(kwargs or {}))
            if answered is not None:
                self.asked = True
                return answered
        return func(*args, **(kwargs or {}))


def _zero(tensor: Tensor) -> float:
    return torch.zeros((), dtype=tensor.dtype, device="cpu").item()


def _nowhere(tensor: Tensor) -> Tensor:
    """Indices of the elements that are not zero (0, dims)."""
    return torch.empty(0, tensor.dim(), dtype=torch.long, device="meta")


def _selected(tensor: Tensor, indices: list[Tensor | None]) -> Tensor | None:
    """What masks select, which is nothing; None if no index is a mask."""
    if not any(index is not None and index.dtype == torch.bool for index in indices):
        return None
    plain: list[Tensor | None] = []
    for index in indices:
        masks = index is not None and index.dtype == torch.bool
        plain += _nowhere(index).unbind(1) if masks else [index]  # type: ignore[arg-type]
    return aten.index.Tensor(tensor, plain)  # type: ignore[no-any-return]


def _on_cpu(
    tensor: Tensor, *, dtype: torch.dtype | None = None, device: torch.device | None = None, **_: object
) -> Tensor | None:
    if device is None or torch.device(device).type == "meta":
        return None
    return torch.zeros(tensor.shape, dtype=dtype or tensor.dtype, device=device)


_ANSWERS: dict[OpOverload, Callable[..., object]] = {
    aten._local_scalar_dense.default: _zero,
    aten.nonzero.default: _nowhere,
    aten.index.Tensor: _selected,
    aten.equal.default: lambda _one, _other: True,
    aten._to_copy.default: _on_cpu,
}
