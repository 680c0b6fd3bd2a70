"""llama.cpp: K and V of all caches of a context, and states of recurrent layers (R, S)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from kvcalc.answers.size import sized
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.explain import Explainer, Printed, Reading
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.log import Compared
from kvcalc.report.sheet import Json
from kvcalc.units import positive_int

_TYPES = ("f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "f32")
_OTHERS: Mapping[str, tuple[Json, ...]] = {
    "type_k": _TYPES,
    "type_v": _TYPES,
    "n_seq_max": (1, 2, 3, 4, 8),
    "swa_full": (True, False),
    "kv_unified": (True, False),
    "n_ubatch": (256, 512, 1024, 2048),
    "flash_attn": ("off",),
    "n_rs_seq": (1, 2, 3),
    "n_ctx": (512, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
}
_UNDECIDED = "the log prints no cache larger than 0.00 MiB; pass that of a longer context"
_TENSORS = {
    "K": ("k", "compressed_k", "index_k"),
    "V": ("v", "index_v"),
    "R": ("conv_state", "conv_state_q", "conv_state_k", "conv_state_v", "shift_state"),
    "S": ("recurrent_state", "ssm_state", "wkv_state"),
}
"""Tensors that each letter of the log's lines adds up."""


def compare(model: Model, reading: Reading, settings: Mapping[str, Json], ranks: Parallel) -> tuple[Compared, ...]:
    """K, V, R and S, each added up over all lines, as caches of full and of sliding layers have lines of their own.

    Raises InvalidValueError where neither the log nor a setting says n_ctx.
    """
    del ranks  # one process holds the context
    context = dict(settings)
    n_ctx = context.pop("n_ctx", None)
    tokens = None if n_ctx is None else positive_int(n_ctx, "n_ctx")
    if n_ctx is None and model.max_model_len is None:
        raise InvalidValueError(
            "nothing says how long the context is",
            field="n_ctx",
            help="pass the log from its beginning, where n_ctx is printed",
        )
    engine_settings = {"defaults": "cli", **context}
    report = sized(Question.of(model, tokens=tokens, engine="llama_cpp", engine_settings=engine_settings))
    found = []
    for letter, names in _TENSORS.items():
        printed = [cache[letter] for cache in reading.caches if letter in cache]
        number = sum(t.bytes for group in report.groups for t in group.tensors if t.name in names)
        if printed:
            found.append(_compared(letter, printed, number))
    return tuple(found)


def _compared(letter: str, printed: list[Printed], number: int) -> Compared:
    """The number beside the sum of the lines, each of which was rounded by itself."""
    first = printed[0]
    total = sum((one.value for one in printed), Fraction(0))
    rounding = sum((one.rounding for one in printed), Fraction(0))
    words = letter if len(printed) == 1 else f"{letter} of {len(printed)} caches"
    agrees = abs(total - number) <= rounding
    return Compared(words, first.shown(total), first.shown(number), agrees, first.line, decides=total > rounding)


EXPLAINER = Explainer(compare, others=_OTHERS, ranks={}, undecided=_UNDECIDED)
