"""The settings of one run of vLLM, resolved: unset ones take vLLM's defaults.

Source: vLLM, engine/arg_utils.py, config/vllm.py, config/model.py, model_executor/models/config.py.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.attention._state import StateCache
from kvcalc.attention.cca import CompressedConvolution
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.cross import CrossAttention
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.ngram_conv import NgramConvolution
from kvcalc.attention.none import NoCache
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.vllm import quirks
from kvcalc.engines.vllm.backends import BLACKWELL, HOPPER
from kvcalc.engines.vllm.cpu import (
    Cpu,
    batches_on_cpu,
    block_size_on_cpu,
    check_release,
    cpu_named,
    reads_prompts_whole,
    state_dtype_on_cpu,
    whole_prompts,
)
from kvcalc.engines.vllm.drafting import Speculation, speculation_of
from kvcalc.engines.vllm.dtypes import FP8, MODEL, TURBOQUANT
from kvcalc.engines.vllm.ranks import Ranks
from kvcalc.engines.vllm.settings import LLM, SERVER, VllmSettings
from kvcalc.engines.vllm.specs import Limits
from kvcalc.engines.vllm.versions import LatentBlocks, PrefixStates, VllmRelease
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware.gpu import Gpu
from kvcalc.model import Model
from kvcalc.units import GIB

DEFAULT_BLOCK_SIZE = 16
_FLASHMLA_BLOCK, _CUTLASS_BLOCK, _FLASHINFER_WIDTH = 64, 128, 128  # platforms/cuda.py, up to 0.17
DEFAULT_MAX_LEN = 2048
"""Longest sequence if a config has none."""
_NOT_STRETCHED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Rotary settings whose max_position_embeddings already include the scaling."""
_LARGE, _MEDIUM = 160 * GIB, 70 * GIB
_GB10 = (12, 1)
_TIERS = {
    _LARGE: ({LLM: 16384}, 1024),  # and for a server as the version says
    _MEDIUM: ({SERVER: 8192, LLM: 16384}, 1024),
    0: ({SERVER: 2048, LLM: 8192}, 256),
}
"""Least memory of a GPU, then its max_num_batched_tokens by usage, and its max_num_seqs."""
STATE_KINDS = (StateCache, ShortConvolution, CompressedConvolution, NgramConvolution)
_MOST_DIGITS = 9
"""Digits from which on a number is not a layer's."""
_BOUNDARY_LAYERS = 2
"""Layers at either end that TurboQuant leaves in the model's dtype."""
_OLDEST = (7, 0)
"""Least compute capability that vLLM was built for."""
_LONG_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Run(NamedTuple):
    """One run of vLLM. Counts are of tokens.

    version: of vLLM.
    cache_dtype: of quantisable layers; kernels may still choose another form of it.
    gpu: what runs it, which may be a CPU.
    block_size: the user's, or None; on a CPU it is known if tokens are cached.
    skipped_layers: indices of layers whose cache is not quantised; skips_windows: whether those with a window are too.
    attention_backend: the user's kernels, for every layer.
    """

    version: str
    gpu: Gpu | Cpu
    ranks: Ranks
    limits: Limits
    model_dtype: str
    cache_dtype: str
    conv_dtype: str
    state_dtype: str
    block_size: int | None
    max_num_batched_tokens: int
    max_num_seqs: int
    is_hybrid: bool
    keeps_prefixes: bool
    unifies_windows: bool
    speculation: Speculation
    skipped_layers: frozenset[int]
    skips_windows: bool
    auto_fit: bool
    attention_backend: str | None = None

    @property
    def release(self) -> VllmRelease:
        """The version's rules."""
        return VllmRelease(self.version)

    @property
    def num_speculative_tokens(self) -> int:
        """Draft tokens."""
        return self.speculation.tokens

    def of_drafts(self, first: int) -> Run:
        """The run for draft layers. first: the index of the first of them."""
        own = self.speculation
        skipped = frozenset(first + layer for layer in self.skipped_layers) if own.standalone else self.skipped_layers
        return self._replace(cache_dtype=own.cache_dtype or self.cache_dtype, skipped_layers=skipped)

    @property
    def cpu(self) -> Cpu | None:
        """The CPU that runs it, if it is one."""
        return self.gpu if isinstance(self.gpu, Cpu) else None

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of the GPU."""
        return self.gpu.compute_capability or (0, 0)


def settle(model: Model, settings: VllmSettings, ranks: Ranks) -> Run:
    """Run of `model` with `settings` on `ranks`. Raises errors for what vLLM would refuse."""
    gpu, cpu = _device(settings), cpu_named(settings.gpu)
    _check_ranks(model, ranks)
    if model.drafter is not None:
        _check_ranks(model.drafter, Ranks(ranks.tp))
    release = settings.release
    whole = reads_prompts_whole(cpu, latents=_has_latents(model))
    states, others = _has_states(model)
    encoder = any(isinstance(part, CrossAttention) for group in model.groups for part in group.parts)
    is_hybrid = states and others
    keeps_prefixes = settings.enable_prefix_caching
    if whole:
        keeps_prefixes = False
    elif keeps_prefixes is None:
        attends = others or _is_hybrid_class(model)
        keeps_prefixes = not encoder and attends and (not states or release.hybrids_keep_prefixes)
    if states and keeps_prefixes:
        keeps_prefixes = _keeps_states(model, release)
    model_dtype = _model_dtype(model, settings)
    cache_dtype = _cache_dtype(model, settings, gpu, model_dtype)
    speculation = speculation_of(model, settings, ranks)
    ahead = speculation.tokens - 1 if speculation.modules > 1 and release.keeps_for_drafts else 0
    longest = _max_model_len(model, settings)
    batched, sequences = _batches(model, settings, gpu, ranks, longest, encoder=encoder)
    batched = whole_prompts(longest) if whole else batched
    asynchronous = settings.async_scheduling is not False and cpu is None
    concurrent = ranks.pp + 1 if asynchronous and settings.use_v2_model_runner else ranks.pp
    if asynchronous and not settings.use_v2_model_runner and ranks.pp == 1:
        concurrent = 2
    conv_dtype, state_dtype = _state_dtypes(model, settings, model_dtype, cpu)
    skipped, skips_windows = _skipped_layers(model, settings, cache_dtype, is_hybrid=is_hybrid)
    chunked = any("attention_chunk_size" in group.facts for group in model.groups)
    unifies = settings.disable_hybrid_kv_cache_manager
    follows = speculation.has_layers and not speculation.standalone  # reads what the model hands on (use_eagle)
    return Run(
        version=settings.version,
        gpu=gpu,
        ranks=ranks,
        limits=Limits(
            max_model_len=longest,
            in_flight_tokens=(concurrent if not _has_windows(model) or release.batches_in_flight else 1) * batched,
            encoder_tokens=_encoder_tokens(model, release) or batched,
            dcp=ranks.dcp,
            extra_window_tokens=ahead,
            keeps_states=states and keeps_prefixes,
            speculative_tokens=speculation.tokens if speculation.tokens and release.counts_draft_states else 0,
            batch_tokens=batched,
        ),
        model_dtype=model_dtype,
        cache_dtype=cache_dtype,
        conv_dtype=conv_dtype,
        state_dtype=state_dtype,
        block_size=_block_size(model, settings, gpu),
        max_num_batched_tokens=batched,
        max_num_seqs=sequences,
        is_hybrid=is_hybrid,
        keeps_prefixes=keeps_prefixes,
        unifies_windows=(chunked and (follows or release.unifies_chunks)) if unifies is None else unifies,
        speculation=speculation,
        skipped_layers=skipped,
        skips_windows=skips_windows,
        auto_fit=settings.max_model_len == -1,
        attention_backend=settings.attention_backend,
    )


def _device(settings: VllmSettings) -> Gpu | Cpu:
    """The GPU or the CPU that runs vLLM. Raises NotApplicableError for one whose kernels are not known."""
    cpu = cpu_named(settings.gpu)
    if cpu is not None:
        check_release(settings.version)
        return cpu
    gpu = known_device(type(settings), settings.gpu)
    if (gpu.compute_capability or _OLDEST) < _OLDEST:
        raise NotApplicableError(
            f"{gpu.name} has compute capability {'.'.join(map(str, gpu.compute_capability or ()))}, but kvcalc models "
            f"vLLM's kernels only from {'.'.join(map(str, _OLDEST))} on",
            help="use --engine llama_cpp, or another GPU",
        )
    return gpu


def _has_states(model: Model) -> tuple[bool, bool]:
    """Whether layers keep recurrent states, and whether any caches tokens; Inkling's convolutions are a window."""
    states = [
        isinstance(part, STATE_KINDS) and not (isinstance(part, ShortConvolution) and attends)
        for group in model.groups
        for attends in [any(isinstance(part, GroupedQueryAttention) for part in group.parts)]
        for part in group.parts
        if not isinstance(part, NoCache)
    ]
    return any(states), not all(states)


def _keeps_states(model: Model, release: VllmRelease) -> bool:
    """Whether prefix caching keeps states, too. Raises NotApplicableError if it keeps those of every block."""
    mamba = any(isinstance(part, Mamba | Mamba2) for group in model.groups for part in group.parts)
    kept = release.prefix_states
    if mamba and kept in (PrefixStates.ALL, PrefixStates.ALL_OR_ALIGN):
        raise NotApplicableError(
            f"with prefix caching vLLM {release.version} keeps the states of every block of Mamba layers, in blocks of "
            "a size that kvcalc does not know",
            help="remove enable_prefix_caching: it is off by default",
        )
    return kept in (PrefixStates.ALL_OR_ALIGN, PrefixStates.ALIGN)


def _encoder_tokens(model: Model, release: VllmRelease) -> int | None:
    """Tokens of the encoder, if the model fixes them and the version reserves no more."""
    crosses = [part for group in model.groups for part in group.parts if isinstance(part, CrossAttention)]
    fixed = next((part.encoder_tokens for part in crosses if part.encoder_tokens), None)
    return None if fixed is None or release.encoder_takes_batch else fixed


def _has_windows(model: Model) -> bool:
    """Whether a request takes fewer blocks of some layers than its tokens fill."""
    groups = (*model.groups, *model.draft_groups)
    return any(isinstance(part, CompressedAttention) for group in groups for part in group.parts) or any(
        name in group.facts for group in groups for name in ("sliding_window", "attention_chunk_size")
    )


def _is_hybrid_class(model: Model) -> bool:
    """Whether vLLM's class is a hybrid's, regardless of its layers."""
    return bool(model.model_type) and not quirks.is_one_of(model, quirks.ATTENTION_FREE)


def _has_latents(model: Model) -> bool:
    """Whether layers cache latents, or entries shared by all heads."""
    latents = (MultiHeadLatentAttention, CompressedAttention)
    return quirks.uses_mla(model) and any(isinstance(part, latents) for g in model.groups for part in g.parts)


def _check_ranks(model: Model, ranks: Ranks) -> None:
    for facts in (group.facts for group in model.groups):
        heads = facts.get("num_query_heads", 0)
        if heads % ranks.tp:
            raise NotApplicableError(
                f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({ranks.tp})",
                help="choose a tp that divides the attention heads",
            )
    if ranks.pp > 1 and quirks.is_one_of(model, quirks.NO_PIPELINE):
        raise NotApplicableError(
            f"Pipeline parallelism is not supported for this model ({model.model_type})", help="use pp=1"
        )
    if ranks.tp % ranks.dcp:
        raise NotApplicableError(
            f"tp_size={ranks.tp} must be divisible by dcp_size={ranks.dcp}", help="choose a dcp that divides tp"
        )
    if ranks.dcp > 1 and not _has_latents(model):
        _check_shared_tokens(model, ranks)


def _check_shared_tokens(model: Model, ranks: Ranks) -> None:
    """Decode context parallelism uses the ranks that would hold copies of KV heads; elsewhere there are none."""
    for facts in (group.facts for group in model.groups if "num_kv_heads" in group.facts):
        kv_heads, heads = facts["num_kv_heads"], facts["num_query_heads"]
        if ranks.tp <= kv_heads or ranks.dcp > ranks.tp // kv_heads:
            raise NotApplicableError(
                f"Decode context parallelism for GQA/MQA shares the {ranks.tp} tensor parallel ranks of {kv_heads} KV "
                f"heads, which is less than --decode-context-parallel-size {ranks.dcp} copies of each",
                help="raise tp above the number of KV heads, or use dcp=1",
            )
        if heads // kv_heads % ranks.dcp:
            raise NotApplicableError(
                f"The model's number of query heads per KV head ({heads // kv_heads}) must be divisible by "
                f"--decode-context-parallel-size ({ranks.dcp})",
                help="choose a dcp that divides it",
            )


def _model_dtype(model: Model, settings: VllmSettings) -> str:
    """The dtype of the weights at run time: as published, but float32 only if requested."""
    if settings.dtype != "auto":
        return {"half": "float16", "float": "float32"}.get(settings.dtype, settings.dtype)
    return "float16" if model.published.dtype in ("float16", "half") else "bfloat16"


def declared_format(model: Model, release: VllmRelease) -> str | None:
    """Format that the checkpoint declares for its cache; None if it declares none that the version reads."""
    if not release.reads_checkpoint_dtype:
        return None
    return {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}.get(model.published.kv_dtype)


def _cache_dtype(model: Model, settings: VllmSettings, gpu: Gpu | Cpu, model_dtype: str) -> str:
    """kv_cache_dtype, or for `auto` the checkpoint's or the model class's."""
    asked = settings.kv_cache_dtype
    if asked != "auto" and asked not in settings.release.cache_dtypes:
        raise NotApplicableError(
            f"vLLM {settings.version} has no kv_cache_dtype {asked}",
            help=f"use one of {', '.join(settings.release.cache_dtypes)}",
        )
    if asked == "auto":
        by_checkpoint = declared_format(model, settings.release)
        if by_checkpoint:
            return by_checkpoint
        on_blackwell = gpu.compute_capability is not None and gpu.compute_capability[0] == 10  # noqa: PLR2004
        return "fp8_e4m3" if on_blackwell and quirks.is_one_of(model, quirks.FP8_ON_BLACKWELL) else "auto"
    if asked == "bfloat16" and quirks.is_one_of(model, quirks.BFLOAT16_IS_AUTO):
        return "auto"
    if asked in MODEL and asked != model_dtype:
        raise NotApplicableError(
            f'kv_cache_dtype="{asked}" is incompatible with dtype="{model_dtype}"',
            help=f"set kv_cache_dtype to auto or {model_dtype}",
        )
    if asked.startswith("nvfp4") and not asked.endswith("_ds_mla") and _has_latents(model):
        raise NotApplicableError(
            "nvfp4 KV cache is not supported with MLA (Multi-head Latent Attention) backends",
            help=f"set kv_cache_dtype to auto, {FP8[0]}, or nvfp4_ds_mla with a sparse MLA backend",
        )
    return asked


def _block_size(model: Model, settings: VllmSettings, gpu: Gpu | Cpu) -> int | None:
    """Tokens of a block as requested, or as older versions force it for latents; None if kernels decide."""
    asked, forced = settings.block_size, 0
    if isinstance(gpu, Cpu):
        caches_tokens = _has_states(model)[1]
        return block_size_on_cpu(gpu, asked, latents=_has_latents(model)) if caches_tokens else asked
    if not _has_latents(model):
        return asked
    major, _ = gpu.compute_capability or (0, 0)
    rule = settings.release.latent_blocks
    if rule is LatentBlocks.KERNELS:
        return asked
    parts = [part for group in model.groups for part in group.parts]
    if major == HOPPER[0] or any(isinstance(part, Indexer) for part in parts):
        forced = _FLASHMLA_BLOCK
    elif major == BLACKWELL[0]:
        by_flashinfer = rule is LatentBlocks.FLASHINFER and all(
            part.qk_nope_head_dim == _FLASHINFER_WIDTH for part in parts if isinstance(part, MultiHeadLatentAttention)
        )
        forced = _FLASHMLA_BLOCK if by_flashinfer else _CUTLASS_BLOCK
    return forced if forced and (asked or 1) % forced else asked


def _state_dtypes(model: Model, settings: VllmSettings, model_dtype: str, cpu: Cpu | None) -> tuple[str, str]:
    """Formats of convolutions' columns and of recurrent states."""
    conv = model_dtype if settings.mamba_cache_dtype == "auto" else settings.mamba_cache_dtype
    if cpu is not None:
        gated = any(isinstance(part, GatedDeltaNet) for group in model.groups for part in group.parts)
        of_cpu = state_dtype_on_cpu(cpu, settings.mamba_ssm_cache_dtype, gated_deltanet=gated)
        if of_cpu is not None:
            return conv, of_cpu
    if settings.mamba_ssm_cache_dtype != "auto":
        return conv, settings.mamba_ssm_cache_dtype
    preset = not model.published.model_type  # which leaves out what its kind has by default
    named = (group for group in model.groups if preset or group.origins.get("state_dtype"))
    written = next((group.facts["state_dtype"] for group in named if "state_dtype" in group.facts), None)
    by_config = _LONG_NAMES.get(dtype_named(written).name) if written else None
    if any(isinstance(part, KimiDeltaAttention) for group in model.groups for part in group.parts):
        return conv, "float32"
    if quirks.is_one_of(model, quirks.STATES_AS_RELEASED):
        default = settings.release.nemotron_states
        named_itself = by_config if preset or model.published.state_dtype else None
        return conv, conv if default == "auto" else named_itself or default
    if by_config and model.model_type.startswith(quirks.STATES_AS_CONFIG_SAYS):
        return conv, by_config
    return conv, conv


def longest_by_config(model: Model) -> int | None:
    """Longest sequence that the config allows: its smallest length, times the scaling of its positions.

    vLLM's own default if a config has none; None for a preset without one.
    """
    named = model.published.longest_tokens or model.max_model_len
    if named is None:
        return DEFAULT_MAX_LEN if model.published.model_type else None
    stretched = model.published.rope_type not in _NOT_STRETCHED and "gemma3" not in model.published.model_type
    return int(named * model.published.rope_factor) if stretched else named


def _max_model_len(model: Model, settings: VllmSettings) -> int:
    longest = longest_by_config(model)
    asked = settings.max_model_len
    if asked == -1 and not settings.release.auto_fits_length:
        raise NotApplicableError(
            f"vLLM {settings.version} does not accept max_model_len -1",
            help="set a length, or remove max_model_len for the model's own",
        )
    named = model.published.longest_tokens or model.max_model_len
    if asked == -1 and longest is not None and named is None:
        raise NotApplicableError(
            f"max_model_len must be a positive integer, got int: -1; the config of {model.name} has no length",
            help=f"remove max_model_len for {DEFAULT_MAX_LEN}, or set one",
        )
    if asked is not None and asked != -1:
        if named is not None and longest is not None and asked > longest:
            raise NotApplicableError(
                f"User-specified max_model_len ({asked}) is greater than the derived max_model_len ({longest})",
                help=f"use at most {longest}; positions beyond it are not defined",
            )
        return asked
    if longest is None:
        raise InvalidValueError(
            f"the context of {model.name} is unknown",
            field="max_model_len",
            help="set it: max_model_len=131072, or load the model's own config.json",
        )
    return model.published.original_tokens or longest if model.published.rope_type == "longrope" else longest


def _batches_by_device(settings: VllmSettings, gpu: Gpu | Cpu, ranks: Ranks) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs if neither is given."""
    if isinstance(gpu, Cpu):
        return batches_on_cpu(settings.usage, ranks.tp * ranks.pp)
    small = gpu.memory_bytes < _MEDIUM or "a100" in gpu.name or gpu.compute_capability == _GB10
    tier = _LARGE if gpu.memory_bytes >= _LARGE else 0 if small else _MEDIUM
    by_usage, sequences = _TIERS[tier]
    if tier == _LARGE:
        by_usage = {**by_usage, SERVER: settings.release.large_gpu_batch}
    return by_usage[settings.usage], sequences


def _batches(
    model: Model, settings: VllmSettings, gpu: Gpu | Cpu, ranks: Ranks, longest: int, *, encoder: bool
) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs, by default from the GPU."""
    by_device, sequences = _batches_by_device(settings, gpu, ranks)
    sequences = settings.max_num_seqs or sequences
    if settings.max_num_batched_tokens is not None:
        batched = settings.max_num_batched_tokens
        if encoder and batched < longest:
            raise NotApplicableError(
                f"max_num_batched_tokens ({batched}) is smaller than max_model_len ({longest}), and prompts of a model "
                "with an encoder are not read in chunks",
                help="raise max_num_batched_tokens or lower max_model_len",
            )
    else:
        batched = by_device
        if encoder:  # prompts are read whole
            batched = max(longest, batched)
        if model.published.sees_images_whole:
            batched = max(batched, quirks.LEAST_BATCHED_TOKENS.get(model.published.model_type, 0))
        batched = min(sequences * longest, batched)
    return batched, settings.max_num_seqs or min(sequences, batched)


def _skipped_layers(
    model: Model, settings: VllmSettings, cache_dtype: str, *, is_hybrid: bool
) -> tuple[frozenset[int], bool]:
    """Layers that are not quantised: the user's, and with TurboQuant those at either end."""
    named = [str(layer) for layer in settings.kv_cache_dtype_skip_layers]
    skipped = {int(layer) for layer in named if layer.isdecimal() and len(layer) < _MOST_DIGITS}
    if cache_dtype in TURBOQUANT and not is_hybrid:
        edge = min(_BOUNDARY_LAYERS, model.num_layers // 2)
        skipped |= {*range(edge), *range(model.num_layers - edge, model.num_layers)}
    return frozenset(skipped), "sliding_window" in named
