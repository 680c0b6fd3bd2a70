"""A question: a model, how much of it is cached, in which engine, and on which ranks.

Built once at the boundary (command line, plan files, Python API), where each value is checked and errors know its
place. Inside, nothing takes settings as a mapping, or a loose degree of parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.model import Model
from kvcalc.units import positive_int, shown

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel


class Question(NamedTuple):
    """`sequences` sequences of `tokens` cached tokens each, stored in `kv_dtype`.

    tokens: cached per sequence, prompt and generated tokens together; in an engine with one context for all sequences,
    those of the whole context. parallel: layout of the ranks; None: the whole model.
    """

    model: Model
    tokens: int
    sequences: int
    kv_dtype: Dtype
    engine: Engine
    parallel: Parallel | None = None

    @classmethod
    def of(  # noqa: PLR0913  # the boundary: plain values, each checked
        cls,
        model: Model,
        *,
        tokens: int | None,
        sequences: int = 1,
        kv_dtype: str | Dtype = "bf16",
        engine: str | Engine = "ideal",
        engine_settings: Mapping[str, object] | None = None,
        parallel: Parallel | None = None,
    ) -> Question:
        """Question from plain values; `kv_dtype` in either spelling (bf16, bfloat16).

        tokens: None for an engine with one context: the model's context. Raises InvalidValueError for a count that is
        not a whole number of at least 1, UnknownNameError.
        """
        if not isinstance(model, Model):
            raise InvalidValueError(f"size takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
        asked_of = engine if isinstance(engine, Engine) else Engine.of(engine, engine_settings)
        if tokens is None and asked_of.SHARES_CONTEXT:
            tokens = _own_context(model, asked_of.serving(positive_int(sequences, "sequences")))
        return cls(
            model,
            positive_int(tokens, "tokens"),
            positive_int(sequences, "sequences"),
            kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype),
            asked_of,
            parallel,
        )

    def of_model(self, model: Model) -> Question:
        """The same for another model."""
        return self._replace(model=model)

    def at(self, tokens: int | None) -> Question:
        """The same at another length; None: at the engine's default context."""
        own = _own_context(self.model, self.serving) if tokens is None else tokens
        return self._replace(tokens=positive_int(own, "tokens"))

    @property
    def serving(self) -> Engine:
        """The engine, configured for the number of sequences."""
        return self.engine.serving(self.sequences)

    @property
    def times_held(self) -> int:
        """How often the engine's allocation is held: once per sequence, or once for a shared context."""
        return self.engine.times_held(self.sequences)


def _own_context(model: Model, engine: Engine) -> int:
    """The engine's default context. Raises InvalidValueError if it is unknown."""
    own = engine.own_context(model)
    if own is None:
        raise InvalidValueError(
            f"the context of {model.name} is unknown, and no tokens are given",
            field="tokens",
            help="pass the tokens of the context, for example tokens=8192",
        )
    return own
