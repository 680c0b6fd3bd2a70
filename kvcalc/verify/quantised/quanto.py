"""The quantised cache of transformers with 2 or 4 bits in the manner of quanto, run."""

from __future__ import annotations

from torch import Tensor

from kvcalc.verify.quantised._bits import BITS_PER_BYTE
from kvcalc.verify.quantised._cache import QuantisedCache
from kvcalc.verify.quantised._grouped import GroupedStore


class NeighboursStore(GroupedStore):
    """Axis 0: neighbouring elements are a group."""

    def grouped(self, rows: Tensor) -> Tensor:
        """One group after the other."""
        return rows.reshape(-1, self.group_size)

    def ungrouped(self, groups: Tensor) -> Tensor:
        """As they came."""
        return groups.reshape(self.shape)


class ChannelsStore(GroupedStore):
    """Axis -1: of each channel, group_size neighbouring tokens are a group; those of one head go before the next's."""

    def grouped(self, rows: Tensor) -> Tensor:
        """Groups of one channel after those of another."""
        by_tokens = rows.reshape(-1, self.group_size, rows.shape[-1])  # (B * h * T / g, g, D)
        return by_tokens.permute(2, 0, 1).reshape(-1, self.group_size)

    def ungrouped(self, groups: Tensor) -> Tensor:
        """As they came."""
        by_channel = groups.reshape(self.shape[-1], -1, self.group_size)  # (D, B * h * T / g, g)
        return by_channel.permute(1, 2, 0).reshape(self.shape)


class Quanto(QuantisedCache):
    """Codes of several groups share a row on axis 0; on axis -1 each group has separate bytes."""

    def store(self, name: str) -> GroupedStore:
        """By the axis of keys or of values."""
        bits = self.arguments["nbits"]
        by_elements = self.arguments["axis_key" if name == "k" else "axis_value"] == 0
        return (NeighboursStore if by_elements else ChannelsStore)(
            bits,
            self.arguments["q_group_size"],
            self.arguments["residual_length"],
            rows=by_elements,
            in_word=BITS_PER_BYTE // bits,
            word_bytes=1,
        )


POLICY = Quanto
