"""LMDeploy: the size of a block over all layers, and the number of blocks."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.answers.size import sized
from kvcalc.engines import Engine
from kvcalc.fleet.explain._reading import Explainer, Printed, Reading, Settings
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json
from kvcalc.units import MIB, count, gibibytes, plural

BLOCK, BLOCKS, BUDGET = "block", "blocks", "cache"
"""Names of numbers in a reading."""
_OTHERS: Mapping[str, tuple[Json, ...]] = {"quant_policy": (8, 4, 16), "block_size": (16, 32, 128, 256)}
_RANKS = {"tp": (2, 4, 8)}
_NO_BLOCK = "the log does not state the block size; TurboMind prints '[BlockManager] block_size = ... MB'"
_NO_BLOCKS = "TurboMind of 0.15 and later states how large its cache is, and no block that could be compared"


def compare(model: Model, reading: Reading, settings: Settings, ranks: Parallel) -> tuple[Compared, ...]:
    """Bytes of a block, and the tokens of all blocks."""
    numbers = reading.numbers()
    tokens = Engine.of("lmdeploy", dict(settings)).block_size  # type: ignore[attr-defined]
    report = sized(Question.of(model, tokens=tokens, engine="lmdeploy", engine_settings=dict(settings), parallel=ranks))
    block_bytes = report.most_rank_bytes if report.per_rank else report.total_bytes
    found = []
    if BLOCK in numbers:
        found.append(_of_block(numbers[BLOCK], f"block of {plural(tokens, 'token')}", block_bytes))
    if BUDGET in numbers:
        printed = numbers[BUDGET]
        words = f"about {int(printed.value) // block_bytes * tokens:,} tokens"
        found.append(Compared(BUDGET, str(printed), words, True, printed.line, decides=False, judged=False))
    if BLOCKS in numbers:
        printed = numbers[BLOCKS]
        held = int(printed.value)
        words = f"{count(held * tokens)} tokens, {gibibytes(held * block_bytes)}"
        found.append(Compared(BLOCKS, str(printed), words, agrees=True, line=printed.line, decides=False))
    return tuple(found)


def _of_block(printed: Printed, what: str, block_bytes: int) -> Compared:
    """A block next to its size, of which older versions print whole MB, rounded down."""
    if "." in printed.text:
        return printed.compared(what, block_bytes)
    whole = block_bytes // MIB
    return Compared(
        what, str(printed), f"{whole} MB, of {block_bytes:,} B", whole == printed.value // MIB, printed.line
    )


def _undecided(reading: Reading) -> str:
    return _NO_BLOCKS if BUDGET in reading.numbers() else _NO_BLOCK


EXPLAINER = Explainer(compare, others=_OTHERS, ranks=_RANKS, undecided=_undecided)
