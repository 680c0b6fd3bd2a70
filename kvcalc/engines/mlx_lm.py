"""MLX-LM: arrays that grow by whole steps of 256 tokens, rings for windows, quantised once they are long.

All tokens are one prompt, which `generate_step` reads in chunks but for its last token; while it then decodes, a ring
that is not full yet has up to 255 slots fewer. Established from its source (models/cache.py, generate.py and the
models' make_cache); it was not run.

    every token  256 * ceil(t / 256) slots: chunks of the prompt are whole steps, and each later overflow adds one
    a window     min(t + 255, window): the prompt is concatenated, and the last token adds a step
    quantised    per head, token and group: group_size * bits / 8 bytes of codes, a scale and a bias
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.cache.dtypes import BF16, FP32, Dtype
from kvcalc.cache.packing import grouped, int_codes
from kvcalc.cache.slots.engines import in_steps, last_and_spare, switched
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.base.versions import Release
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

_STEP = 256
_STEPS = in_steps(_STEP, _STEP, words=f"every token, by {_STEP}")
_BITS, _GROUPS = (2, 4, 8), (32, 64, 128)
_BY_KV_DTYPE = {"int4": 4, "int8": 8}
_STATES = (GatedDeltaNet, KimiDeltaAttention, Mamba2, ShortConvolution)
"""Kinds whose states are known: convolutions in the model's dtype, recurrent ones in float32 (gated_delta.py, ssm.py).

Those of Mamba are not: they have the format that a checkpoint has its A_log in, which no config says."""
_MAMBA_2 = {"falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "plamo2"}
"""Types that MLX-LM has Mamba-2 layers of."""
_CHUNKED = {"llama4", "llama4_text"}
_ROTATES = {
    *("afmoe", "baichuan_m1", "cohere2", "exaone4", "exaone_moe", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text"),
    *("gemma4", "gemma4_text", "gemma4_unified", "gpt_oss", "laguna", "llama", "mellum", "mimo_v2_flash", "ministral3"),
    *("muse_glimmer", "muse_glimmer_text", "olmo3", "plamo3", "step3p5"),
}
"""Types whose sliding layers have a RotatingKVCache; in all others they keep every token."""
_WINDOW_WITHOUT_QUERY = {"mimo_v2_flash"}
"""Types whose ring is one shorter than what a query sees, itself included."""
_MAKES_CACHE = (
    _ROTATES | _CHUNKED | {"deepseek_v32", "glm_moe_dsa", "longcat_flash", "minimax_m3", "mistral", "nemotron-nas"}
)
"""Types that make their caches themselves, whatever max_kv_size says."""
_EXPANDS_LATENT = {"deepseek_v2", "minicpm3", "youtu"}
"""Types that cache the keys and values of each head; all others the latent as keys and the rotary key as values."""


class MlxLmRelease(Release):
    """A version of MLX-LM."""

    TITLE = "MLX-LM"
    KNOWN = ("0.32.2",)


@dataclass(frozen=True)
class MlxLm(Engine):
    """Arguments of `mlx_lm.generate`, named and defaulted as MLX-LM names them."""

    TITLE = "MLX-LM"
    VERIFIED = "from source (models/cache.py, generate.py, make_cache of its models), not run"
    RELEASE = MlxLmRelease

    version: str = setting(MlxLmRelease.newest(), "version of MLX-LM whose rules hold")
    max_kv_size: int | None = setting(
        None, "tokens of a ring in every layer, for models that do not make their caches themselves"
    )
    prefill_step_size: int = setting(2048, f"tokens of a prompt's chunks, a multiple of {_STEP} here")
    kv_bits: int | None = setting(None, "8, 4 or 2; none: as the model computes, or by size's kv_dtype, int8 or int4")
    kv_group_size: int = setting(64, "elements that share a scale and a bias")
    quantized_kv_start: int = setting(5000, "tokens from which on caches are quantised")

    def __post_init__(self) -> None:
        count_from(self.max_kv_size, "max_kv_size", 1)
        count_from(self.prefill_step_size, "prefill_step_size", 1)
        if self.kv_bits is not None:
            one_of(self.kv_bits, "kv_bits", _BITS)
        one_of(self.kv_group_size, "kv_group_size", _GROUPS)
        count_from(self.quantized_kv_start, "quantized_kv_start", 0)

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Arrays of the caches. Raises NotApplicableError for what MLX-LM refuses, and for what is not known of it."""
        check_unchanged(model, self.TITLE)
        if self.prefill_step_size % _STEP:
            raise NotApplicableError(
                f"chunks of {self.prefill_step_size} tokens cut arrays between their steps of {_STEP}, and what is "
                "left then depends on every chunk before",
                help=f"write prefill_step_size=2048, or another multiple of {_STEP}",
            )
        bits = self.kv_bits or _BY_KV_DTYPE.get(kv_dtype.name)
        if not (bits or kv_dtype.is_computed_in):
            raise NotApplicableError(f"MLX-LM stores no cache in {kv_dtype}", help="use bf16, fp16, or kv_bits=8 or 4")
        model_dtype = kv_dtype if kv_dtype.is_computed_in else BF16
        return tuple(tuple(_tensors(model, group, self, bits, model_dtype)) for group in model.groups)

    def notes(self, model: Model) -> tuple[str, ...]:
        """What of the settings is not used."""
        found = []
        if self.max_kv_size is not None and _makes_cache(model):
            found.append(f"max_kv_size is ignored: MLX-LM's {model.model_type} makes its caches itself")
        if self.kv_bits is not None and _has_lists(model):
            found.append(
                f"kv_bits is ignored: MLX-LM's {model.model_type} has lists of caches, which are not quantised"
            )
        return tuple(found)


def _tensors(
    model: Model, group: LayerGroup, settings: MlxLm, bits: int | None, model_dtype: Dtype
) -> Iterator[CacheTensor]:
    for part in group.parts:
        if isinstance(part, _STATES) and (model.model_type in _MAMBA_2 or not isinstance(part, Mamba2)):
            yield from (tensor._replace(dtype=tensor.dtype and FP32) for tensor in part.tensors())
            continue
        rule = _slots(part, model, settings)
        for tensor in _stored(part, model, group):
            plain = tensor._replace(slot_rule=rule, dtype=tensor.dtype or model_dtype)
            if bits is None or _has_lists(model) or _chunk_size(part, model):
                # kv_bits does not hold in a list of caches (CacheList), nor where only a chunk is kept
                yield plain
            else:
                yield from _quantised(plain, settings, bits, model_dtype, group)


def _stored(part: Attention, model: Model, group: LayerGroup) -> tuple[CacheTensor, ...]:
    """Tensors of a part before their slots are counted. Raises NotApplicableError for a kind that is not known."""
    if isinstance(part, MultiHeadLatentAttention) and model.model_type in _EXPANDS_LATENT:
        return NaiveMultiHeadLatentAttention(
            num_query_heads=part.num_query_heads,
            qk_rope_head_dim=part.qk_rope_head_dim,
            qk_nope_head_dim=part.qk_nope_head_dim,
            v_head_dim=part.v_head_dim,
        ).tensors()
    if isinstance(part, GroupedQueryAttention | MultiHeadLatentAttention | NoCache):
        return part.tensors()
    if isinstance(part, Indexer) and not part.index_pooling:
        (key,) = part.tensors()
        # deepseek_v32.py fills the values of the cache with zeros of the keys' shape, minimax_m3_vl.py with none
        return (key, key._replace(name="index_zeros")) if _has_latent(group) else (key,)
    raise NotApplicableError(
        f"kvcalc does not know how MLX-LM stores {part.label} layers, as {group.name} layers of {model.name} are",
        help="size it in another engine",
    )


def _slots(part: Attention, model: Model, settings: MlxLm) -> SlotRule:
    """Slots of the part's arrays."""
    if not isinstance(part, GroupedQueryAttention):
        return _STEPS
    if chunk := _chunk_size(part, model):
        return _chunk(chunk)
    window = part.sliding_window if model.model_type in _ROTATES else None
    if window is not None and model.model_type in _WINDOW_WITHOUT_QUERY:
        window = max(1, window - 1)
    if window is None and not _makes_cache(model):
        window = settings.max_kv_size
    return _STEPS if window is None else _ring(window)


def _chunk_size(part: Attention, model: Model) -> int | None:
    """Tokens of a part's chunks, where MLX-LM keeps no more of them."""
    is_chunked = model.model_type in _CHUNKED
    return part.attention_chunk_size if is_chunked and isinstance(part, GroupedQueryAttention) else None


def _ring(window: int) -> SlotRule:
    """min(t + 255, window)."""
    if window <= _STEP:
        return once(window, words=f"ring of {window:,}")
    return last_and_spare(window, _STEP - 1)


def _chunk(chunk: int) -> SlotRule:
    """Steps up to the chunk; then its last tokens are kept and a step is added for each token anew."""
    if chunk % _STEP:
        raise NotApplicableError(
            f"kvcalc knows chunks of whole steps of {_STEP} tokens, not of {chunk:,}", help="size it in another engine"
        )
    return in_steps(_STEP, _STEP, chunk + _STEP, words=f"chunk of {chunk:,}, by {_STEP}")


def _quantised(
    tensor: CacheTensor, settings: MlxLm, bits: int, model_dtype: Dtype, group: LayerGroup
) -> Iterator[CacheTensor]:
    """The tensor while it is short, and its codes, scales and biases from quantized_kv_start on."""
    if tensor.slot_rule != _STEPS:
        raise NotApplicableError(
            f"RotatingKVCache Quantization NYI: {group.name} layers keep {tensor.name} in a ring",
            help="leave kv_bits out",
        )
    if _has_latent(group):
        raise NotApplicableError(
            f"kvcalc does not know how MLX-LM quantises {group.label} layers", help="leave kv_bits out"
        )
    if tensor.dims[-1].size % settings.kv_group_size:
        raise NotApplicableError(
            f"the {tensor.dims[-1].size} elements of a head of {tensor.name} are not a multiple of kv_group_size "
            f"({settings.kv_group_size})",
            help=f"write kv_group_size={_GROUPS[0]}",
        )
    start = settings.quantized_kv_start
    late = _STEPS
    if start > 1:
        none = once(0, words="none")
        late = switched(none, start, _STEPS, words=f"{_STEPS}, from {start:,} on")
        yield tensor._replace(slot_rule=switched(_STEPS, start, none, words=f"{_STEPS}, up to {start - 1:,}"))
    codes = int_codes(bits)
    yield from grouped(tensor, codes, settings.kv_group_size, late, scale_dtype=model_dtype)


def _has_lists(model: Model) -> bool:
    """Whether each layer has a list of caches, as those beside indexers and beside states do."""
    parts = [group.parts for group in model.groups]
    beside_states = any(len(kinds) > 1 and any(isinstance(kind, _STATES) for kind in kinds) for kinds in parts)
    return beside_states or any(isinstance(kind, Indexer) for kinds in parts for kind in kinds)


def _makes_cache(model: Model) -> bool:
    slides_or_recurs = any(isinstance(part, _STATES) for group in model.groups for part in group.parts)
    return slides_or_recurs or model.model_type in _MAKES_CACHE


def _has_latent(group: LayerGroup) -> bool:
    return any(isinstance(part, MultiHeadLatentAttention) for part in group.parts)


ENGINE = MlxLm
