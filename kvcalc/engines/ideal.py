"""What the model itself needs, and nothing else: no pages, no padding, no slot too many."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.cache.slots.layers import ENCODER_TOKENS, EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.base.tensors import per_tensor, with_encoder_tokens
from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Sharing

HONOURED, FULL = "honoured", "full"
_FORMATS = (
    ("latent_dtype", ("c_kv", "k_rope"), "a latent"),
    ("index_dtype", ("index_k", "index_gate", "index_mask"), "keys of an indexer"),
)
"""Settings of formats, with the tensors that they are of."""


def _format_of(field: str, name: str) -> Dtype:
    try:
        return dtype_named(name)
    except KvcalcError as error:
        raise error.at(field) from None


@dataclass(frozen=True)
class Ideal(Engine):
    """The model's own tensors, with windows honoured or with a slot for every token."""

    TITLE = "ideal"
    VERIFIED = "measured: torch modules of every kind, run by size --verify, equal to the byte"

    window: str = setting(
        HONOURED,
        "honoured: the last W tokens of a sliding layer, one chunk of a chunked one; full: every token in every layer, "
        "as engines without per-layer caches reserve",
    )
    latent_dtype: str | None = setting(None, "format of MLA's latent and rotary key; none: that of the cache")
    index_dtype: str | None = setting(None, "format of an indexer's keys; none: that of the cache")
    encoder_tokens: int | None = setting(None, "what cross-attention looks at, where the model does not fix it")

    def __post_init__(self) -> None:
        one_of(self.window, "window", (HONOURED, FULL))
        count_from(self.encoder_tokens, "encoder_tokens", 0)
        for field, _, _ in _FORMATS:
            if getattr(self, field) is not None:
                _format_of(field, getattr(self, field))

    @property
    def sharing(self) -> Sharing:
        """Evenly, or not at all."""
        return Sharing(experts=True)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """The model's own tensors, with a slot for every token where windows are not honoured.

        Raises NotApplicableError where a format is set for what no layer keeps.
        """
        del kv_dtype
        formats = self._formats(model)

        def allocated(tensor: CacheTensor) -> CacheTensor:
            if tensor.name in formats:
                tensor = tensor._replace(dtype=formats[tensor.name])
            if self.window == FULL and tensor.slot_rule.window is not None:
                return tensor._replace(slot_rule=EVERY_TOKEN)
            return with_encoder_tokens(tensor, encoder_tokens)

        encoder_tokens = self.encoder_tokens
        if encoder_tokens is None and _wants_encoder_tokens(model):
            encoder_tokens = model.max_model_len
        return per_tensor(model, allocated)

    def _formats(self, model: Model) -> dict[str, Dtype]:
        """Tensors whose format is set apart, by name."""
        found: dict[str, Dtype] = {}
        kept = {tensor.name for group in model.groups for tensor in group.tensors}
        for field, names, what in _FORMATS:
            asked = getattr(self, field)
            if asked is None:
                continue
            if kept.isdisjoint(names):
                raise NotApplicableError(f"no layer of {model.name} keeps {what}", help=f"leave {field} out")
            found |= dict.fromkeys(names, _format_of(field, asked))
        return found

    def notes(self, model: Model) -> tuple[str, ...]:
        """How many tokens of the encoder were assumed."""
        if self.encoder_tokens is not None or model.max_model_len is None or not _wants_encoder_tokens(model):
            return ()
        return (
            f"assuming that the encoder reads {model.max_model_len:,} tokens, the longest that {model.name} was made "
            "for; set encoder_tokens for another length",
        )

    def policies(self) -> dict[str, Engine]:
        """Whether windows are honoured, so that a report can say what the other policy costs."""
        words = {HONOURED: "windows honoured", FULL: "every layer full"}
        order = (self.window, *(window for window in words if window != self.window))
        return {words[window]: replace(self, window=window) for window in order}


def _wants_encoder_tokens(model: Model) -> bool:
    """Whether nothing says how many tokens its cross-attention looks at."""
    return any(tensor.slot_rule is ENCODER_TOKENS for group in model.groups for tensor in group.tensors)


ENGINE = Ideal
