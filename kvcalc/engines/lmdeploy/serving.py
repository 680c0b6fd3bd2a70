"""LMDeploy's derived configuration for a model: blocks, format, and the reach of its block table.

Source: LMDeploy, pytorch/models/module_map.py, pytorch/configurations/, pytorch/engine/executor/base.py
(_adjust_block_size), pytorch/engine/executor/__init__.py, pytorch/paging/block_manager/.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.cache.slots.engines import blocks, in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, last_tokens
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.lmdeploy.settings import BY_KV_DTYPE, FP8, INT4, INT8, NONE, TURBOMIND, LmdeploySettings
from kvcalc.engines.lmdeploy.versions import LmdeployRelease
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import DRAFTS, Model

SERVED = frozenset(
    {
        *("chatglm", "cogvlm", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4"),
        *("deepseek_vl_v2", "gemma", "gemma2", "gemma3", "gemma3_text", "glm4", "glm4_moe", "glm4_moe_lite", "glm4v"),
        *("glm4v_text", "glm_moe_dsa", "gpt_oss", "hy_v3", "intern_s2_preview", "interns1", "interns1_1"),
        *("interns1_pro", "interns2_mobius", "internlm2", "internlm3", "internvl", "internvl_chat", "kimi_k2"),
        *("kimi_k25", "llama", "llama4", "llama4_text", "llava", "llava_next", "minicpm3", "minicpmv", "mistral"),
        *("mixtral", "phi3", "phi3_v", "phimoe", "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl"),
        *("qwen2_vl_text", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe"),
        *("qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_text", "qwen3_omni_moe_thinker", "qwen3_vl"),
        *("qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "sdar", "sdar_moe"),
    }
)
"""Types of the architectures in MODULE_MAP."""
IN_TURBOMIND = frozenset(
    {
        *("glm4_moe_lite", "gpt_oss", "intern_s2_preview", "interns1", "interns2_mobius", "internlm2", "internlm3"),
        *("internvl", "internvl_chat", "llama", "mixtral", "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe"),
        *("qwen2_vl", "qwen2_vl_text", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"),
        "qwen3_moe",
    }
)
"""Types of the architectures in TurboMind's SUPPORTED_ARCHS."""
EXPANDED = frozenset({"minicpm3"})
"""Types whose latent is expanded before caching: heads of equal width for K and V (MiniCPM3ModelConfigBuilder)."""
SPECULATING_STATES = frozenset(
    {"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "intern_s2_preview", "interns2_mobius"}
)
"""Types whose states grow with draft tokens, and may be float32 (Qwen3_5ModelConfigBuilder)."""
_DRAFTS_IN_HEADS = frozenset({"glm4_moe"})
"""Types whose draft layers are loaded by deepseek_mtp, which cache heads instead of a latent."""
_NO_WINDOW = frozenset({"gemma3", "gpt_oss", "chatglm", "llava", "llava_next"})
"""Types whose builders ignore sliding_window, so that the block table is unlimited."""
_TEXT_OF_GEMMA_3 = "gemma3_text"
_FLASH_BLOCK, _COMPRESSED_BLOCK, _WIDE_BLOCK = 64, 256, 32
_WIDE_HEAD = 512
"""Key width from which blocks are limited to 32 tokens."""
_HOPPER = 9
"""Compute capability from which FlashMLA is used (flash_mla_available)."""


class Serving(NamedTuple):
    """How a model is stored.

    dtype: of computation. policy: active QuantPolicy. kernel_block: tokens that a kernel reads at once. window: reach
    of the block table, for all layers; None: unlimited. drafts: draft tokens. fp32_states: whether recurrent states are
    float32. turbomind: whether it is TurboMind's layout: no padding, and a latent is K and V at once. pads_operators:
    whether operators' own caches are padded as well.
    """

    dtype: Dtype
    policy: int
    block_size: int
    kernel_block: int
    window: int | None
    drafts: int
    fp32_states: bool
    turbomind: bool
    pads_operators: bool

    @property
    def rule(self) -> SlotRule:
        """Whole blocks of a request; with a window one more than it fills (WindowBlockManager)."""
        return in_blocks(self.block_size, self._held) if self.block_size > 1 else self._held

    @property
    def block_rule(self) -> SlotRule:
        """The number of blocks."""
        return blocks(self.block_size, self._held)

    @property
    def _held(self) -> SlotRule:
        block = self.block_size
        return EVERY_TOKEN if self.window is None else last_tokens(-(-self.window // block) * block + block)


def serving_of(model: Model, settings: LmdeploySettings, kv_dtype: Dtype) -> Serving:
    """How the engine stores `model`. Raises NotApplicableError with its message if it refuses."""
    turbomind = settings.backend == TURBOMIND
    release = LmdeployRelease(settings.version)
    _check_served(model, release, turbomind=turbomind)
    _check_known(model, release)
    known_device(type(settings), settings.gpu)
    policy = policy_of(model, settings, kv_dtype)
    one_size = (settings.block_size, settings.block_size)
    block_size, kernel_block = one_size if turbomind else _blocks(model, settings)
    drafts = any(group.name == DRAFTS for group in model.groups)
    return Serving(
        dtype=kv_dtype if kv_dtype.is_computed_in else BF16,
        policy=policy,
        block_size=block_size,
        kernel_block=kernel_block,
        window=None if turbomind else window_of(model),
        drafts=settings.num_speculative_tokens if drafts and model.model_type in SPECULATING_STATES else 0,
        fp32_states=bool(settings.fp32_mamba_ssm_dtype) and model.model_type in SPECULATING_STATES,
        turbomind=turbomind,
        pads_operators=_asks_for_caches(model) and release.pads_operators,
    )


def _check_served(model: Model, release: LmdeployRelease, *, turbomind: bool) -> None:
    """Raises NotApplicableError for a type that the engine has no class for."""
    types = {model.model_type, model.published.model_type} - {""}
    served, engine = (IN_TURBOMIND, "TurboMind") if turbomind else (SERVED, "LMDeploy")
    late = types & set(LmdeployRelease.types_to_come.old.split(", "))
    if types and (not types & served or (late and late & set(release.types_to_come.split(", ")))):
        own = model.model_type or model.published.model_type
        raise NotApplicableError(
            f"{engine} {release.version} has no class for models of type {own}, as {model.name} is",
            help="try another --engine",
        )


def _check_known(model: Model, release: LmdeployRelease) -> None:
    """Raises NotApplicableError for layouts of older versions that are unknown."""
    if _asks_for_caches(model) and not release.is_sparse_known:
        raise NotApplicableError(
            f"kvcalc does not know how LMDeploy {release.version} stores sparse latents and DeepSeek-V4",
            help="use lmdeploy@0.17 or a newer one",
        )
    drafts = any(group.name == DRAFTS for group in model.groups)
    if drafts and model.model_type in _DRAFTS_IN_HEADS and not release.shares_drafts:
        raise NotApplicableError(
            f"in LMDeploy {release.version} one rank holds all heads of the draft layers of {model.name}; kvcalc "
            "models them only as divided among ranks",
            help="use lmdeploy@0.18, or remove --mtp (mtp)",
        )


def policy_of(model: Model, settings: LmdeploySettings, kv_dtype: Dtype) -> int:
    """QuantPolicy as set, or derived from kv_dtype. Raises NotApplicableError for an unsupported format."""
    policy = settings.quant_policy or BY_KV_DTYPE.get(kv_dtype.name, NONE)
    if policy == NONE and kv_dtype.name not in ("bf16", "fp16"):
        raise NotApplicableError(
            f"LMDeploy stores no cache in {kv_dtype}",
            help="use bf16, fp16, or quant_policy=8 (int8), 4 (int4) or 16 (fp8)",
        )
    if settings.backend == TURBOMIND and policy not in (NONE, INT4, INT8):
        raise NotApplicableError(
            f"invalid quant_policy for TurboMind: {policy}; it supports only 8 and 4 bits",
            help="write quant_policy=8, or backend=pytorch",
        )
    if has_sparse_latent(model) and policy not in (NONE, FP8):
        raise NotApplicableError(
            f"Sparse MLA does not support quant_policy={policy}. Use none/0 for BF16 or fp8/16 for FP8.",
            help="write quant_policy=16",
        )
    return policy


def _blocks(model: Model, settings: LmdeploySettings) -> tuple[int, int]:
    """Tokens of a block and of a kernel's read, as required by the model's kernels."""
    if is_compressed(model):
        return _COMPRESSED_BLOCK, _COMPRESSED_BLOCK
    has_latent, sparse = has_one_latent(model), has_sparse_latent(model)
    if has_latent and uses_flash_mla(settings):
        if settings.block_size != _FLASH_BLOCK:
            raise NotApplicableError(
                "Please set block_size to 64 for flash_mla.", help="write block_size=64, or use_flash_mla=false"
            )
        if sparse and settings.kernel_block != _FLASH_BLOCK:
            raise NotApplicableError(
                "DSA indexer cache requires equal logical and kernel block sizes, got "
                f"{settings.block_size} and {settings.kernel_block}.",
                help="remove kernel_block_size",
            )
    elif sparse:
        raise NotApplicableError(
            "DeepSeek-V3.2 requires flash_mla to be available.", help="name a Hopper or newer GPU, such as h100-80gb"
        )
    elif _key_width(model) >= _WIDE_HEAD and settings.block_size > _WIDE_BLOCK:
        return _WIDE_BLOCK, _WIDE_BLOCK
    return settings.block_size, settings.kernel_block


def uses_flash_mla(settings: LmdeploySettings) -> bool:
    """Whether FlashMLA reads latents: as set, or by the GPU."""
    if settings.use_flash_mla is not None:
        return bool(settings.use_flash_mla)
    return (gpu_named(settings.gpu).compute_capability or (0, 0))[0] >= _HOPPER


def window_of(model: Model) -> int | None:
    """Reach of the block table of all layers, in tokens; None if unlimited.

    A config's sliding_window is applied to every layer, even full ones, except for types whose builders ignore it. For
    a `gemma3_text` of unknown origin, which is also inside Gemma 3 with images, everything is kept.
    """
    own = model.published.model_type or model.model_type
    if own in _NO_WINDOW or (own == _TEXT_OF_GEMMA_3 and not model.published.model_type) or is_compressed(model):
        return None
    return max(
        (group.facts["sliding_window"] for group in model.groups if "sliding_window" in group.facts), default=None
    )


def _key_width(model: Model) -> int:
    """Widest key row of a head: latent and rotary key together for MLA."""
    widths = [0]
    for group in model.groups:
        for part in group.parts:
            if isinstance(part, MultiHeadLatentAttention):
                widths.append(part.kv_lora_rank + part.qk_rope_head_dim)
            else:
                widths += [tensor.dims[-1].size for tensor in part.tensors() if tensor.name == "k"]
    return max(widths)


def has_one_latent(model: Model) -> bool:
    """Whether layers cache a latent, not expanded heads."""
    return model.model_type not in EXPANDED and _has(model, MultiHeadLatentAttention)


def _asks_for_caches(model: Model) -> bool:
    """Whether operators of the model have their own caches: indexers and compressors."""
    return has_sparse_latent(model) or is_compressed(model)


def has_sparse_latent(model: Model) -> bool:
    """Whether it is DeepSeek sparse attention: a latent, and an indexer in some layers."""
    return _has(model, MultiHeadLatentAttention) and _has(model, Indexer)


def is_compressed(model: Model) -> bool:
    """Whether the model has layers of DeepSeek-V4."""
    return _has(model, CompressedAttention)


def _has(model: Model, kind: type) -> bool:
    return any(isinstance(part, kind) for group in model.groups for part in group.parts)
