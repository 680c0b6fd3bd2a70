"""Caches that quantise a prompt whole and then tokens in numbers, as the quantised caches of transformers do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.quantised._bits import Affine, affine, pack, unpack
from kvcalc.verify.quantised._cache import TOKENS, Store


class GroupedStore(Store):
    """Codes and scales of all settled tokens of all sequences, and a residual (B, h, waiting, D).

    Each time that residual_length tokens wait, what is settled is dequantised and quantised again together with them.
    rows: codes of several groups share a row of words; otherwise each group is packed by itself.
    in_word codes go into a word of word_bytes.
    """

    def __init__(
        self, bits: int, group_size: int, residual_length: int, *, rows: bool, in_word: int, word_bytes: int
    ) -> None:
        self.bits = bits
        self.group_size = group_size
        self.residual_length = residual_length
        self.rows = rows
        self.in_word = in_word
        self.word_bytes = word_bytes
        self.codes = self.scales = self.residual = torch.empty(0)
        self.shape = torch.Size()

    @abstractmethod
    def grouped(self, rows: Tensor) -> Tensor:
        """Elements of (B, h, T, D) as (groups, group_size)."""

    @abstractmethod
    def ungrouped(self, groups: Tensor) -> Tensor:
        """Groups as they came in, (B, h, T, D)."""

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Codes, scales and the residual."""
        return {"_codes": self.codes, "_scales": self.scales, "_residual": self.residual}

    def append(self, rows: Tensor) -> None:
        """Quantises a prompt; of later tokens residual_length together."""
        if not self.shape:
            self._quantise(rows)
            return
        waiting = torch.cat([self.residual, rows], dim=TOKENS)
        if waiting.shape[TOKENS] < self.residual_length:
            self.residual = waiting
        else:
            self._quantise(torch.cat([self._settled().to(rows.dtype), waiting], dim=TOKENS))

    def read(self) -> Tensor:
        """Settled tokens dequantised, then those that wait."""
        return torch.cat([self._settled().to(self.residual.dtype), self.residual], dim=TOKENS)

    def _quantise(self, rows: Tensor) -> None:
        self.shape = rows.shape
        quantised = affine(self.grouped(rows), self.bits, rows.dtype)
        self.scales = quantised.scales
        self.codes = self._packed(quantised.codes)
        self.residual = rows[:, :, :0].clone()

    def _settled(self) -> Tensor:
        return self.ungrouped(Affine(self._unpacked(), self.scales).values())

    def _packed(self, codes: Tensor) -> Tensor:
        if not self.rows:
            return self._words(codes).contiguous()  # (groups, words)
        missing = -codes.shape[0] % self.in_word
        filled = torch.cat([codes, codes.new_zeros(missing, self.group_size)])
        shared = filled.unflatten(0, (self.in_word, -1)).permute(1, 2, 0)  # (in_word, rows, g) -> (rows, g, in_word)
        return self._words(shared).squeeze(-1).contiguous()  # (rows, g)

    def _words(self, codes: Tensor) -> Tensor:
        """Codes (..., n) in words (..., ceil(n / in_word)), each filled from its lowest bit on."""
        missing = -codes.shape[-1] % self.in_word
        filled = torch.nn.functional.pad(codes, (0, missing)).unflatten(-1, (-1, self.in_word))
        packed = pack(filled, self.bits, self.word_bytes)  # (..., words, word_bytes)
        return packed.squeeze(-1) if self.word_bytes == 1 else packed.view(torch.int32).squeeze(-1)

    def _unpacked(self) -> Tensor:
        words = self.codes.unsqueeze(-1)
        codes = unpack(words if self.word_bytes == 1 else words.view(torch.uint8), self.bits, self.in_word)
        if not self.rows:
            return codes.flatten(-2)[..., : self.group_size]  # (groups, words, in_word) -> (groups, g)
        groups = self.scales.shape[0]
        return codes.permute(2, 0, 1).flatten(0, 1)[:groups]  # (rows, g, in_word) -> (in_word * rows, g)
