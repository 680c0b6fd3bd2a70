"""What is asked of a model: how many sequences, how long, in which format."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.units import positive_int


@dataclass(frozen=True, slots=True)
class Workload:
    """`sequences` sequences of `tokens` cached tokens each, stored in `kv_dtype`.

    tokens: what one sequence has cached, prompt and generated tokens together.
    Raises InvalidValueError for a count that is not a whole number of at least 1.
    """

    tokens: int
    sequences: int
    kv_dtype: Dtype

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", positive_int(self.tokens, "tokens"))
        object.__setattr__(self, "sequences", positive_int(self.sequences, "sequences"))

    @classmethod
    def of(cls, tokens: int, sequences: int = 1, kv_dtype: str | Dtype = "bf16") -> Workload:
        """Workload from plain values; `kv_dtype` in either spelling (bf16, bfloat16)."""
        return cls(tokens, sequences, kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype))
