"""SGLang's arguments resolved for one model: the format of its cache, its schedule, and its pools.

Source: SGLang, server_args.py, arg_groups/, configs/model_config.py, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from kvcalc.cache.dtypes import BF16, Dtype, dtype_named
from kvcalc.engines.sglang.backends import BLACKWELL, has_fp8_index, major, page_of
from kvcalc.engines.sglang.compressed import is_compressed, pools_entries
from kvcalc.engines.sglang.memory import default_chunk_tokens
from kvcalc.engines.sglang.schedule import Drafts, Schedule
from kvcalc.engines.sglang.settings import (
    AUTO,
    DFLASH,
    EXTRA_BUFFER,
    EXTRA_BUFFER_LAZY,
    NO_BUFFER,
    STANDALONE,
    STORED,
    UNCHUNKED,
    SglangSettings,
)
from kvcalc.engines.sglang.tensors import Rows, has_sparse_latent, has_states, is_sliding, stream_channels
from kvcalc.engines.sglang.types import (
    EXTRA_BUFFERS,
    INKLING,
    NO_BUFFERS,
    OWN_WINDOWS,
    WIDELY_DRAFTED,
    is_of,
    type_of,
)
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import DRAFTS, Model

_BY_KV_DTYPE = {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}
_TRTLLM, _TILELANG, _SCALED = "trtllm", "tilelang", "flashmla_kv"
_UNKNOWN_CONTEXT = 2048
"""Context if a config has none (utils/hf_transformers/common.py, get_context_length)."""
_COMPRESSED_REQUESTS = 256
"""max_running_requests of DeepSeek-V4 if none is given (arg_groups/deepseek_v4_hook.py)."""
_DRAFTING_REQUESTS = 48
"""max_running_requests with drafts if none is given (arg_groups/speculative_hook.py)."""
_DRAFT_STEPS = 3
"""Tokens drafted in sequence if no number is given (_auto_choose_speculative_params)."""
_WIDE_DRAFTS = Drafts(5, 4, 8)
"""Drafts of Llama and Grok if no number is given."""
_DFLASH_TOKENS = 16
"""block_size of a DFLASH draft whose config has none (_handle_dflash)."""
_RADIX_STATES = 3
"""States that a running request may hold while prefixes are cached (MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO)."""
_LENGTHS = ("max_sequence_length", "seq_length", "max_seq_len", "model_max_length", "max_position_embeddings")
"""Fields with the longest context; the first one counts."""
_STRETCHED = ("linear", "dynamic")
"""Ways to scale positions beyond that; with others it is already the scaled length."""


def rows_of(model: Model, settings: SglangSettings, kv_dtype: Dtype, schedule: Schedule) -> Rows:
    """How it stores tokens. Raises NotApplicableError for a format that it refuses."""
    name = cache_dtype(model, settings, kv_dtype)
    model_dtype = kv_dtype if kv_dtype.is_computed_in else BF16
    dtype = model_dtype if name == AUTO else STORED[name]
    return Rows(
        dtype=dtype,
        model_dtype=model_dtype,
        index_dtype=dtype if has_fp8_index(model, settings, name) else model_dtype,
        scaled_latent=name == "fp8_e4m3" and has_sparse_latent(model) and not _raw_latent(model, settings),
        own_windows=has_own_windows(model, settings),
        schedule=schedule,
        state_dtype=None if settings.mamba_ssm_dtype is None else dtype_named(settings.mamba_ssm_dtype),
        stream_channels=stream_channels(model),
    )


def schedule_of(model: Model, settings: SglangSettings, *, dp: int = 1, pp: int = 1) -> Schedule:
    """Its schedule on a rank of attention data parallelism. Raises NotApplicableError for what it refuses.

    Pipeline stages do not overlap, and dp ranks share prefill chunks and requests.
    """
    drafts, strategy = drafts_of(model, settings), _strategy(model, settings)
    overlaps = pp == 1 and not settings.disable_overlap_schedule and strategy != NO_BUFFER
    tracked = {EXTRA_BUFFER: 2 if overlaps else 1, EXTRA_BUFFER_LAZY: 1}.get(strategy, 0)
    chunk_tokens = settings.chunked_prefill_size or default_chunk_tokens(settings.gpu)
    requests = settings.max_running_requests
    if requests is None and drafts:
        requests = _DRAFTING_REQUESTS
    elif requests is None and is_compressed(model):
        requests = _COMPRESSED_REQUESTS
    return Schedule(
        page=page_of(model, settings),
        overlaps=overlaps,
        states=1 if settings.disable_radix_cache else _RADIX_STATES + tracked,
        chunk_tokens=0 if chunk_tokens == UNCHUNKED else chunk_tokens // dp,
        requests=None if requests is None else max(1, requests // dp),
        context_tokens=settings.context_length or _context_tokens(model),
        drafts=drafts,
        dp=dp,
        keeps_prefixes=not settings.disable_radix_cache,
    )


def names_context(model: Model) -> bool:
    """Whether its config has the longest context, in a field that SGLang reads."""
    named = dict(model.published.lengths)
    return any(name in named for name in _LENGTHS) if named else model.max_model_len is not None


def _context_tokens(model: Model) -> int:
    """The longest context in its config, times the scaling factor of rotary positions."""
    published, named = model.published, dict(model.published.lengths)
    if not names_context(model):
        return _UNKNOWN_CONTEXT
    longest = next((named[name] for name in _LENGTHS if name in named), model.max_model_len or _UNKNOWN_CONTEXT)
    stretched = published.rope_type in _STRETCHED and model.model_type != "gemma3_text"  # its kinds of layers differ
    return int(published.rope_factor * longest) if stretched else longest


def drafts_of(model: Model, settings: SglangSettings) -> Drafts | None:
    """Its drafts, if any. Raises InvalidValueError for settings of drafts that do not go together."""
    steps, topk = settings.speculative_num_steps, settings.speculative_eagle_topk or 1
    if settings.speculative_algorithm is None and not any(group.name == DRAFTS for group in model.groups):
        return None
    if settings.speculative_algorithm == DFLASH:
        return Drafts(1, 1, _tokens_of_a_block(model, settings))
    if steps is None and (settings.speculative_eagle_topk or settings.speculative_num_draft_tokens):
        raise InvalidValueError(
            "speculative_num_steps is not given, but other numbers of the draft are",
            field="speculative_num_steps",
            help="set speculative_num_steps, speculative_eagle_topk and speculative_num_draft_tokens together",
        )
    if steps is None and settings.speculative_algorithm != STANDALONE and is_of(model, WIDELY_DRAFTED):
        return _WIDE_DRAFTS
    chain = (steps or _DRAFT_STEPS) + 1
    return Drafts(chain - 1, topk, chain if topk == 1 else settings.speculative_num_draft_tokens or chain)


def _tokens_of_a_block(model: Model, settings: SglangSettings) -> int:
    """Tokens that DFLASH verifies at once. Raises InvalidValueError if they decide pools and are not given."""
    if settings.speculative_num_draft_tokens is None and (has_states(model) or any(map(is_sliding, model.groups))):
        raise InvalidValueError(
            "speculative_num_draft_tokens is not given, and DFLASH takes it from the draft's own config (block_size)",
            field="speculative_num_draft_tokens",
            help="set speculative_num_draft_tokens to block_size of the draft's config, usually 16",
        )
    return settings.speculative_num_draft_tokens or _DFLASH_TOKENS


def _strategy(model: Model, settings: SglangSettings) -> str:
    """How states of prefixes are kept, `auto` if it does not matter. Raises NotApplicableError as SGLang refuses it."""
    asked = settings.mamba_radix_cache_strategy
    if settings.disable_radix_cache:
        return AUTO
    types, keeps = EXTRA_BUFFERS | INKLING, has_states(model)
    if not keeps or not is_of(model, types | NO_BUFFERS):
        if asked.startswith(EXTRA_BUFFER):
            raise _refused(f"--mamba-radix-cache-strategy {asked} needs mamba state, got {type_of(model)}.", AUTO)
        return AUTO
    paged = (settings.page_size or 1) > 1
    if asked == AUTO:
        wanted = is_of(model, INKLING) or not settings.disable_overlap_schedule or paged
        strategy = EXTRA_BUFFER if wanted and is_of(model, types) else NO_BUFFER
    elif asked.startswith(EXTRA_BUFFER) and not is_of(model, types):
        raise _refused(f"extra_buffer is not supported for {type_of(model)}; use no_buffer.", NO_BUFFER)
    else:
        strategy = asked
    if strategy == NO_BUFFER and paged:
        raise NotApplicableError("no_buffer only supports page_size=1.", help="remove page_size")
    if strategy == asked == NO_BUFFER and not settings.disable_overlap_schedule:
        raise NotApplicableError(
            "no_buffer do not support overlap schedule. Try to set disable_overlap_schedule=True.",
            help="set disable_overlap_schedule=1",
        )
    return strategy


def _refused(words: str, strategy: str) -> NotApplicableError:
    return NotApplicableError(words, help=f"set mamba_radix_cache_strategy={strategy}")


def cache_dtype(model: Model, settings: SglangSettings, kv_dtype: Dtype) -> str:
    """kv_cache_dtype as SGLang resolves it. Raises NotApplicableError if it refuses the given one."""
    name = settings.kv_cache_dtype
    if name == AUTO and not kv_dtype.is_computed_in:
        name = _BY_KV_DTYPE.get(kv_dtype.name, "")
    if not name:
        raise NotApplicableError(
            f"SGLang stores no cache in {kv_dtype}",
            help=f"use one of bf16, fp16, fp8, nvfp4, or kv_cache_dtype: {', '.join(STORED)}",
        )
    if is_compressed(model):
        if pools_entries(model) and major(settings) >= BLACKWELL:
            raise NotApplicableError(
                f"kvcalc knows SGLang's layout of DeepSeek-V4.1 only on Hopper, not on {settings.gpu}",
                help="choose a Hopper GPU as gpu",
            )
        if name not in (AUTO, "fp8_e4m3"):
            raise NotApplicableError(
                f"SGLang keeps DeepSeek-V4 in its own byte layout, not in {name}",
                help="remove kv_cache_dtype, or write kv_cache_dtype=fp8_e4m3",
            )
        return "fp8_e4m3"
    if not has_sparse_latent(model):
        return name
    if name == AUTO and major(settings) >= BLACKWELL:
        name = "fp8_e4m3"
    if name not in (AUTO, "bf16", "bfloat16", "fp8_e4m3"):
        raise NotApplicableError(
            f"DeepSeek DSA only supports bf16/bfloat16 or fp8_e4m3 kv_cache_dtype, not {name}",
            help="write kv_cache_dtype=fp8_e4m3",
        )
    return name


def _raw_latent(model: Model, settings: SglangSettings) -> bool:
    """Whether the kernels read a latent in fp8 without scales (_dsa_split_backend_resolution)."""
    default = _TRTLLM if major(settings) >= BLACKWELL else _SCALED
    if is_of(model, ("glm_moe_dsa",)) and major(settings) > BLACKWELL:
        default = _SCALED
    backends = {settings.dsa_prefill_backend or default, settings.dsa_decode_backend or default}
    if _TILELANG in backends and len(backends) > 1:
        raise NotApplicableError(
            "CUDA TileLang FP8 KV requires both DSA backends to be tilelang; raw and scaled FP8 KV layouts cannot be "
            "mixed",
            help="set dsa_prefill_backend and dsa_decode_backend to the same",
        )
    return bool(backends & {_TRTLLM, _TILELANG})


def has_own_windows(model: Model, settings: SglangSettings) -> bool:
    """Whether sliding layers have their own pool."""
    return is_of(model, OWN_WINDOWS) and not settings.disable_hybrid_swa_memory
