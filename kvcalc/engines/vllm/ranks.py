"""Ranks that share a model in vLLM."""

from __future__ import annotations

from typing import NamedTuple


class Ranks(NamedTuple):
    """How many ranks share the model. partition: layers of each pipeline stage."""

    tp: int = 1
    pp: int = 1
    dcp: int = 1
    partition: tuple[int, ...] = ()
