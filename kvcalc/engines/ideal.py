"""Exactly what the model itself needs: no pages, no padding, no spare slots."""

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
"""Settings for formats, with the tensors they apply to."""


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
        "honoured: the last W tokens of a sliding layer, one chunk of a chunked one; full: every token in every "
        "layer, as in engines without per-layer caches",
    )
    latent_dtype: str | None = setting(None, "format of MLA's latent and rotary key; default: the cache's")
    index_dtype: str | None = setting(None, "format of an indexer's keys; default: the cache's")
    encoder_tokens: int | None = setting(None, "tokens that cross-attention attends to, if the model does not fix them")

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
        """The model's own tensors, with a slot for every token if windows are not honoured.

        Raises NotApplicableError if a format is set for something that no layer keeps.
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
        """Tensors with a separate format, by name."""
        found: dict[str, Dtype] = {}
        kept = {tensor.name for group in model.groups for tensor in group.tensors}
        for field, names, what in _FORMATS:
            asked = getattr(self, field)
            if asked is None:
                continue
            if kept.isdisjoint(names):
                raise NotApplicableError(f"no layer of {model.name} keeps {what}", help=f"remove {field}")
            found |= dict.fromkeys(names, _format_of(field, asked))
        return found

    def notes(self, model: Model) -> tuple[str, ...]:
        """A note on the assumed number of encoder tokens."""
        if self.encoder_tokens is not None or model.max_model_len is None or not _wants_encoder_tokens(model):
            return ()
        return (
            f"assuming {model.max_model_len:,} encoder tokens, the maximum of {model.name}; set encoder_tokens for "
            "another length",
        )

    def policies(self) -> dict[str, Engine]:
        """Whether windows are honoured, so that a report can show the cost of the other policy."""
        words = {HONOURED: "windows honoured", FULL: "every layer full"}
        order = (self.window, *(window for window in words if window != self.window))
        return {words[window]: replace(self, window=window) for window in order}


def _wants_encoder_tokens(model: Model) -> bool:
    """Whether the number of tokens of its cross-attention is unknown."""
    return any(tensor.slot_rule is ENCODER_TOKENS for group in model.groups for tensor in group.tensors)


ENGINE = Ideal
