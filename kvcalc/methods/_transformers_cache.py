"""Shared code of transformers' quantised caches: a prompt is quantised at once, later tokens in batches.

Established with transformers 5.2 (cache_utils.py, QuantizedLayer), optimum-quanto 0.2.7 and hqq 0.2.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.packing import grouped, with_residual
from kvcalc.cache.slots.layers import EVERY_TOKEN, pending, settled
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods._quantised import quantised
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int, shown


@dataclass(frozen=True)
class GroupedCache:
    """A cache of transformers that quantises in groups.

    name: its backend. codes: packing of codes. q_group_size, residual_length, prompt_tokens: as in `apply`.
    axes: of keys and of values, each one of `axis_choices`.
    rows_axis: the axis on which codes of several groups share a row of words; on the other each group has its own row.
    """

    name: str
    codes: Dtype
    q_group_size: int
    residual_length: int
    prompt_tokens: int | None
    axes: dict[str, int]
    axis_choices: tuple[int, int]
    rows_axis: int

    def __post_init__(self) -> None:
        positive_int(self.q_group_size, "q_group_size")
        positive_int(self.residual_length, "residual_length")
        if self.prompt_tokens is not None:
            positive_int(self.prompt_tokens, "prompt_tokens")
        for of, axis in self.axes.items():
            if type(axis) is not int or axis not in self.axis_choices:
                field = "axis_key" if of == "k" else "axis_value"
                first, second = self.axis_choices
                raise InvalidValueError(
                    f"{field} must be {first} or {second}, not {shown(axis)}",
                    field=field,
                    help=f"write {field}={first}",
                )

    def applied_to(self, model: Model) -> Model:
        """`model` with its keys and values in this cache. Raises NotApplicableError, InvalidValueError."""
        for group in model.groups:
            unfit = next((tensor for tensor in group.tensors if tensor.slot_rule != EVERY_TOKEN), None)
            if unfit is not None:
                raise NotApplicableError(
                    f"transformers has no quantised cache for {model.name}: {group.name} layers keep {unfit.name} "
                    f"({unfit.slot_rule}), and only full attention can be quantised",
                    help="use it on a model with only full attention, or use per-token-head",
                )
        cut = PromptCut(layer_by_layer=True, prompt_tokens=self.prompt_tokens)
        changed = quantised(model, self.name, self._parts, every_token=True, prompt_cut=cut)
        note = "assuming every cached token is prompt; with prompt_tokens=N, later tokens go to a residual"
        return changed if self.prompt_tokens is not None else replace(changed, notes=(*changed.notes, note))

    def check(self, tensor: CacheTensor, *, rows: bool) -> None:
        """Raises InvalidValueError if the backend cannot group or pack keys or values of this shape."""

    def check_lengths(self, per_token: int, multiple_of: int, what: str) -> None:
        """Raises InvalidValueError if a quantised length of `what` is not a multiple of the required number."""
        for field, tokens in (("prompt_tokens", self.prompt_tokens), ("residual_length", self.residual_length)):
            if tokens is not None and tokens * per_token % multiple_of:
                raise InvalidValueError(
                    f"{self.name} cannot quantise {field} ({tokens:,}) of one sequence: {what}, {per_token:,} per "
                    f"token, must be a multiple of {multiple_of:,}",
                    field=field,
                    help=f"write {field}={-(-tokens // multiple_of) * multiple_of}, or another axis",
                )

    def _parts(self, tensor: CacheTensor) -> tuple[CacheTensor, ...]:
        if tensor.elements_per_slot % self.q_group_size:
            raise InvalidValueError(
                f"{self.name} cannot group the {tensor.elements_per_slot:,} elements per token in {tensor.name} by "
                f"q_group_size ({self.q_group_size:,})",
                field="q_group_size",
                help="use a q_group_size that divides them",
            )
        rows = self.axes[tensor.name[0]] == self.rows_axis
        self.check(tensor, rows=rows)
        if self.prompt_tokens is None:
            return grouped(tensor, self.codes, self.q_group_size, tensor.slot_rule, rows_of_groups=rows)
        done = settled(self.residual_length, self.prompt_tokens)
        waiting = pending(self.residual_length, self.prompt_tokens)
        parts = grouped(tensor, self.codes, self.q_group_size, done, rows_of_groups=rows)
        return with_residual(parts, tensor, waiting)
