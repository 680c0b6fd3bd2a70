"""LMDeploy: the size of a block over all layers, and the number of blocks."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.fleet.explain._reading import Explainer, Reading, Settings
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json
from kvcalc.units import count, gibibytes, plural

BLOCK, BLOCKS = "block", "blocks"
"""Names of numbers in a reading."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {"quant_policy": (8, 4, 16), "block_size": (16, 32, 128, 256)}
_RANKS = {"tp": (2, 4, 8)}
_UNDECIDED = "the log does not state the block size; TurboMind prints '[BlockManager] block_size = ... MB'"


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """Bytes of a block, and the tokens of all blocks."""
    numbers = reading.numbers()
    tokens = Engine.of("lmdeploy", dict(settings)).block_size  # type: ignore[attr-defined]
    report = sized(Question.of(model, tokens=tokens, engine="lmdeploy", engine_settings=dict(settings), parallel=ranks))
    block_bytes = report.most_rank_bytes if report.per_rank else report.total_bytes
    found = []
    if BLOCK in numbers:
        found.append(numbers[BLOCK].compared(f"block of {plural(tokens, 'token')}", block_bytes))
    if BLOCKS in numbers:
        printed = numbers[BLOCKS]
        held = int(printed.value)
        words = f"{count(held * tokens)} tokens, {gibibytes(held * block_bytes)}"
        found.append(Compared(BLOCKS, str(printed), words, agrees=True, line=printed.line, decides=False))
    return tuple(found)


EXPLAINER = Explainer(compare, others=_OTHERS, ranks=_RANKS, undecided=_UNDECIDED)
