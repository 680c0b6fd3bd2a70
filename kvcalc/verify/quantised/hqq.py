"""The quantised cache of transformers with 1 to 8 bits in the manner of HQQ, run; scales are not optimised."""

from __future__ import annotations

from torch import Tensor

from kvcalc.verify.quantised._bits import BITS_PER_BYTE
from kvcalc.verify.quantised._cache import QuantisedCache
from kvcalc.verify.quantised._grouped import GroupedStore
from kvcalc.verify.quantised.quanto import NeighboursStore

_THREE, _IN_INT32, _INT32_BYTES = 3, 10, 4


class StridedStore(GroupedStore):
    """Axis 0: elements that are as far apart as there are groups are a group."""

    def grouped(self, rows: Tensor) -> Tensor:
        """Every n-th element of a group."""
        return rows.reshape(self.group_size, -1).T

    def ungrouped(self, groups: Tensor) -> Tensor:
        """As they came."""
        return groups.T.reshape(self.shape)


class Hqq(QuantisedCache):
    """Codes of several groups share a row on axis 1; on axis 0 each group has separate words."""

    def store(self, name: str) -> GroupedStore:
        """By the axis of keys or of values; 3 bits in words of ten."""
        bits = self.arguments["nbits"]
        neighbours = self.arguments["axis_key" if name == "k" else "axis_value"] == 1
        return (NeighboursStore if neighbours else StridedStore)(
            bits,
            self.arguments["q_group_size"],
            self.arguments["residual_length"],
            rows=neighbours,
            in_word=_IN_INT32 if bits == _THREE else BITS_PER_BYTE // bits,
            word_bytes=_INT32_BYTES if bits == _THREE else 1,
        )


POLICY = Hqq
