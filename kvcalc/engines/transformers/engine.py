"""Hugging Face transformers: what its cache classes hold, tensor by tensor.

Established by measuring it (cache_utils.py) on random models of all its types. Exceptions for single model types are in
`quirks`, and changes between its versions in `versions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.cache.dtypes import FP8, Dtype
from kvcalc.cache.packing import grouped, int_codes, with_residual
from kvcalc.cache.slots.engines import whole_until_next
from kvcalc.cache.slots.layers import EVERY_TOKEN, all_but_last, last_tokens, pending, settled
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.base.tensors import with_encoder_tokens
from kvcalc.engines.transformers.history import CHANGES, Asked, as_read, keeps_conv_columns
from kvcalc.engines.transformers.own_caches import EVERY_TOKEN_AND_MASK, own_cache
from kvcalc.engines.transformers.quirks import (
    IGNORES_QUANTIZED_CACHE,
    KEEPS_CONV_COLUMNS,
    NO_STATIC_CACHE,
    QUIRKS,
    REPEATS_HEADS,
    before_sharing,
)
from kvcalc.engines.transformers.versions import TransformersRelease
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.parallel import Parallel

DEFAULT, STATIC, QUANTIZED_FP8, QUANTIZED_QUANTO = "default", "static", "quantized_fp8", "quantized_quanto"
_NBITS = (2, 4)


@dataclass(frozen=True)
class Transformers(Engine):
    """Settings of `generate()` and its caches, named as transformers names them."""

    TITLE = "transformers"
    VERIFIED = (
        "measured: 8,702 caches of 5.23, all but 12 equal to the byte; 4,830 of 19 releases from 4.57.6 to "
        "5.24.0, all equal"
    )
    RELEASE = TransformersRelease
    HOLDS = {"k": ("c_kv", "kv"), "v": ("c_kv", "kv")}  # noqa: RUF012  # never changed
    ALIASES = {"transformers_version": "version"}  # noqa: RUF012  # never changed

    version: str = setting(TransformersRelease.usual(), "version of transformers, or transformers_version")
    cache: str = setting(
        DEFAULT,
        "default (DynamicCache), static (StaticCache, whose capacity is the requested tokens), quantized_fp8 or "
        "quantized_quanto (QuantizedCache with that backend)",
    )
    prompt_tokens: int | None = setting(None, "how many of the tokens are the prompt; default: all")
    decode_steps: int | None = setting(
        None,
        "tokens decoded one by one, if prompt_tokens is not given; 0: one forward pass, no generate()",
    )
    num_beams: int = setting(1, "beams of a beam search, each with its own cache")
    encoder_tokens: int | None = setting(None, "tokens that cross-attention attends to, if the model does not fix them")
    nbits: int = setting(4, "bits of the quanto backend: 4 or 2")
    q_group_size: int = setting(64, "elements per scale in the quanto backend")
    residual_length: int = setting(
        128, "tokens that the quanto backend keeps unquantised until it quantises them together"
    )

    def __post_init__(self) -> None:
        one_of(self.cache, "cache", (DEFAULT, STATIC, QUANTIZED_FP8, QUANTIZED_QUANTO))
        one_of(self.nbits, "nbits", _NBITS)
        for field, value in (
            ("prompt_tokens", self.prompt_tokens),
            ("num_beams", self.num_beams),
            ("q_group_size", self.q_group_size),
            ("residual_length", self.residual_length),
        ):
            count_from(value, field, 1)
        count_from(self.decode_steps, "decode_steps", 0)
        count_from(self.encoder_tokens, "encoder_tokens", 0)

    @property
    def release(self) -> TransformersRelease:
        """The version's rules."""
        return TransformersRelease(self.version)

    @property
    def copies(self) -> int:
        """Each beam has its own cache."""
        return self.num_beams

    def served(self, model: Model) -> Model:
        """The model as this version reads its config."""
        return as_read(model, self.release)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Tensors of the cache that the settings select.

        Raises NotApplicableError if transformers itself refuses that cache for this model.
        """
        del kv_dtype
        caches_since = model.model_type == "xlm" and self.release.xlm_caches  # generate() stops with a wrong shape
        if self.cache == STATIC and (caches_since or model.model_type in NO_STATIC_CACHE):
            raise NotApplicableError(
                f"transformers has no StaticCache for {model.model_type}", help="set cache to default"
            )
        allocation = tuple(
            tuple(_allocated(tensor, model, self) for tensor in _tensors(model, group, self)) for group in model.groups
        )
        if self.cache in (DEFAULT, STATIC) or model.model_type in IGNORES_QUANTIZED_CACHE:
            return allocation
        return _quantized(model, allocation, self)

    def allocate_rank(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Allocation | None:
        """The same for a rank, if ranks share other heads than the model's."""
        if model.model_type not in REPEATS_HEADS:
            return None
        (own,) = stage_models(before_sharing(model), ranks.tp, 1, self.sharing)
        return self.allocate(own, kv_dtype)

    def notes(self, model: Model) -> tuple[str, ...]:
        """What transformers unexpectedly does with this model, and what was not measured."""
        found = []
        if model.methods and as_read(model, self.release).older_readings:
            found.append(
                f"transformers {self.version} reads this config differently; methods were applied to today's reading"
            )
        if self.cache not in (DEFAULT, STATIC) and model.model_type in IGNORES_QUANTIZED_CACHE:
            found.append(
                f"transformers ignores a quantised cache for {model.model_type}; these are the bytes of its own cache"
            )
        if not all(group.is_as_built for group in model.groups):
            names = " and ".join(applied.name for applied in model.methods)
            found.append(
                f"transformers was measured without methods: what {names} keeps is counted as in its published code, "
                f"not checked against transformers {self.version}"
            )
        return tuple(found)


def _tensors(model: Model, group: LayerGroup, settings: Transformers) -> tuple[CacheTensor, ...]:
    """Tensors of a group before their slots are counted transformers' way."""
    asked = Asked(model, settings.release, settings.cache == DEFAULT, settings.prompt_tokens, settings.decode_steps)
    tensors = group.tensors
    for change in CHANGES:
        tensors = change(asked, group, tensors)
    quirk = QUIRKS.get(model.model_type)
    tensors = quirk(model, group, tensors) if quirk else tensors
    return own_cache(asked, group, tensors)


def _allocated(tensor: CacheTensor, model: Model, settings: Transformers) -> CacheTensor:
    tensor = with_encoder_tokens(tensor, settings.encoder_tokens)
    if model.model_type not in KEEPS_CONV_COLUMNS and not keeps_conv_columns(model, settings.release):
        tensor = tensor._replace(dims=tuple(_full_kernel(dim) for dim in tensor.dims))
    rule = tensor.slot_rule
    if rule.window is not None:
        if settings.cache == STATIC:
            return tensor._replace(slot_rule=last_tokens(rule.window))
        # keys[:, :, -window + 1 :] keeps window - 1 tokens, and with a window of 1 all of them
        visible = last_tokens(rule.window - 1) if rule.window > 1 else EVERY_TOKEN
        return tensor._replace(slot_rule=visible, storage_rule=_storage(rule.window, settings))
    prompt, generated = settings.prompt_tokens, rule.generated_window
    if settings.cache == DEFAULT and prompt is not None and generated is not None:
        return tensor._replace(slot_rule=last_tokens(prompt + generated - 1))
    return tensor


def _full_kernel(dim: Dim) -> Dim:
    """A convolution keeps as many columns as its kernel, one more than it needs."""
    return Dim("conv_kernel", dim.size + 1) if dim.name == "conv_columns" else dim


def _storage(window: int, settings: Transformers) -> SlotRule:
    """Slots of the memory behind a window: all of the prompt until the first token is decoded, then the window."""
    if settings.prompt_tokens is None and settings.decode_steps == 0:
        return EVERY_TOKEN
    if settings.prompt_tokens is None or window == 1:
        return last_tokens(window) if window > 1 else EVERY_TOKEN
    return whole_until_next(last_tokens(window), settings.prompt_tokens)


def _quantized(model: Model, allocation: Allocation, settings: Transformers) -> Allocation:
    for group, tensors in zip(model.groups, allocation, strict=True):
        unfit = next((tensor for tensor in tensors if not _can_be_quantized(tensor)), None)
        if unfit is not None:
            raise NotApplicableError(
                f"transformers has no quantised cache for {model.name}: {group.name} layers keep "
                f"{unfit.name} ({unfit.slot_rule}), and only full attention can be quantised",
                help="set cache to default or static",
            )
    if settings.cache == QUANTIZED_FP8:
        return tuple(tuple(tensor._replace(dtype=FP8) for tensor in tensors) for tensors in allocation)
    return tuple(tuple(part for tensor in tensors for part in _quanto(tensor, settings)) for tensors in allocation)


def _can_be_quantized(tensor: CacheTensor) -> bool:
    """Keys and values of full attention, including a prefix; text without pictures has no cross-attention."""
    rule = tensor.slot_rule
    if rule.constant is not None:
        return tensor.name.startswith("prefix") or rule.constant == 0
    return rule in (EVERY_TOKEN, EVERY_TOKEN_AND_MASK) and tensor.name != "index_k"


def _quanto(tensor: CacheTensor, settings: Transformers) -> tuple[CacheTensor, ...]:
    """What is quantised and what is pending: a prompt is quantised at once, then residual_length tokens together."""
    group = settings.q_group_size
    if tensor.elements_per_slot % group:
        raise NotApplicableError(
            f"quanto cannot group the {tensor.elements_per_slot} elements of {tensor.name} by q_group_size {group}",
            help="choose a q_group_size that divides them",
        )
    done = tensor.slot_rule
    waiting: SlotRule | None = None
    if settings.prompt_tokens is not None:
        done = settled(settings.residual_length, settings.prompt_tokens)
        waiting = pending(settings.residual_length, settings.prompt_tokens)
    elif settings.decode_steps and settings.decode_steps % settings.residual_length:
        residual = settings.decode_steps % settings.residual_length
        done, waiting = all_but_last(residual), last_tokens(residual)
    quantized = grouped(tensor, int_codes(settings.nbits), group, done, rows_of_groups=True)
    return quantized if waiting is None else with_residual(quantized, tensor, waiting)
