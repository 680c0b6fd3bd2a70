"""TensorRT-LLM: the pool of a number of tokens, in whole blocks."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.answers.planned import fit
from kvcalc.fleet.explain import Explainer, Reading
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json
from kvcalc.units import TIB, gibibytes

_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "dtype": ("fp8", "nvfp4", "float16", "float32"),
    "tokens_per_block": (16, 32, 64, 128),
}
_RANKS = {"tp": (1, 2, 4, 8, 16), "pp": (2, 4, 8)}
_GIVEN = ("tokens",)
_TOO_SMALL = "the log prints no pool larger than 0.00 GiB; pass the log of a start-up with more tokens"
_NO_SIZE = "the log states tokens and no bytes; include the line 'Allocate ... bytes for k/v cache'"
_ENOUGH = 1024 * TIB


def compare(model: Model, reading: Reading, settings: Mapping[str, Json], ranks: Parallel) -> tuple[Compared, ...]:
    """Each line next to the pool of as many tokens; a start-up that first measures activations prints two."""
    found = []
    for cache in reading.caches:
        tokens, size = cache["tokens"], cache.get("size")
        report = fit(
            model,
            engine="tensorrt_llm",
            available_bytes=_ENOUGH,
            parallel=ranks,
            engine_settings={**settings, "max_tokens": int(tokens.value)},
        )
        taken = report.allocated_bytes[0]
        words = f"pool of {int(tokens.value):,} tokens"
        if size is None:
            found.append(
                Compared(words, "not stated", gibibytes(taken), True, tokens.line, decides=False, judged=False)
            )
            continue
        equal = size.is_print_of(taken)
        found.append(Compared(words, str(size), size.shown(taken), equal, size.line, size.decides))
        if report.tokens != tokens.value:
            blocks = f"{report.tokens:,}"
            found.append(Compared("tokens in whole blocks", str(tokens), blocks, agrees=False, line=tokens.line))
    return tuple(found)


def _undecided(reading: Reading) -> str:
    return _TOO_SMALL if "size" in reading.numbers() else _NO_SIZE


EXPLAINER = Explainer(compare, others=_OTHERS, ranks=_RANKS, undecided=_undecided, given=_GIVEN)
