"""Rules of vLLM that changed between its versions, each a row with its source.

The version at which a row changes is the first release whose source has it; the versions of KNOWN were run.
"""

from __future__ import annotations

from enum import Enum
from fractions import Fraction

from kvcalc.engines.base.versions import Release, Rule


class Reported(Enum):
    """What vLLM logs as the tokens of its cache."""

    BY_BLOCKS = "blocks // groups * block_size"
    BY_CONCURRENCY = "max_concurrency * max_model_len"


class RequestBlocks(Enum):
    """How the blocks of one request are counted for max_concurrency."""

    ALL_PAGES = "bytes of all groups / a block of the first"
    FIRST_PAGES = "the same by each group's first layer"
    EACH_GROUP = "sum over groups of its blocks"


class FitCheck(Enum):
    """What one request of max_model_len must fit in."""

    LAYERS = "sum over layers, before grouping"
    FIRST_GROUP = "blocks of the first group"
    GROUPS = "sum over groups"


class LatentBlocks(Enum):
    """How many tokens of latents make a block."""

    CUTLASS = "64; on Blackwell 128"
    FLASHINFER = "64; on Blackwell 128 unless qk_nope_head_dim is 128"
    KERNELS = "as their kernels prefer"


class UnequalPages(Enum):
    """Treatment of layers whose pages differ in size."""

    REFUSED = "refused"
    ENLARGED = "larger blocks, if they divide"
    PADDED = "attention padded, too"
    STATES_PADDED = "states padded, too"
    PROMOTED = "windows next to latents as full attention, too"


class Packing(Enum):
    """How the pages of DeepSeek-V4's groups share a block."""

    TUPLES = "as many of every page size as the longest group has"
    BY_PAGE = "of each page size as many as one group has at most"
    DENSE = "as large as the largest group"


class PrefixStates(Enum):
    """Which states prefix caching keeps: those of every block (`all`), or of the last two (`align`)."""

    NONE = "none"
    ALL = "all for Mamba, else none"
    ALL_OR_ALIGN = "all for Mamba, else align"
    ALIGN = "align"


class Formats(tuple[str, ...]):
    """Formats of kv_cache_dtype. added: the latest ones, the only ones shown."""

    added: tuple[str, ...] = ()

    @classmethod
    def of(cls, *added: str, before: tuple[str, ...] = ()) -> Formats:
        """Formats of `before` and `added`."""
        found = cls((*before, *added))
        found.added = added
        return found

    def __str__(self) -> str:
        listed = ", ".join(self.added)
        return listed if self.added == tuple(self) else f"and {listed}"


_FP8 = Formats.of("auto", "fp8", "fp8_e4m3", "fp8_e5m2")
_BF16 = Formats.of("bfloat16", before=_FP8)
_DS_MLA = Formats.of("fp8_ds_mla", before=_BF16)
_FP16 = Formats.of("float16", before=_DS_MLA)
_PER_HEAD = Formats.of(
    *("turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc"),
    *("int8_per_token_head", "fp8_per_token_head", "nvfp4"),
    before=_FP16,
)
_INT4 = Formats.of("int4_per_token_head", before=_PER_HEAD)
_NVFP4 = Formats.of("nvfp4_4over6", before=_INT4)
_NVFP4_DS_MLA = Formats.of("nvfp4_ds_mla", before=_NVFP4)
_PLANNING = "v1/core/kv_cache_utils.py"
_SPECS = "v1/kv_cache_interface.py"
_MODEL_CONFIGS = "model_executor/models/config.py"
_HYBRID_BLOCKS = "platforms/interface.py (_align_hybrid_block_size)"


class VllmRelease(Release):
    """A version of vLLM."""

    TITLE = "vLLM"
    KNOWN = (
        *("0.10.2", "0.11.2", "0.12.0", "0.13.0", "0.16.0", "0.17.1", "0.19.1", "0.20.2", "0.23.0", "0.25.1"),
        *("0.26.0", "0.27.1", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
    )

    RECENT = "0.20.2"

    # settings' defaults
    gpu_memory_utilization = Rule(
        "share of a GPU's memory that is taken by default", 0.9, {"0.20.0": 0.92}, "config/cache.py"
    )
    large_gpu_batch = Rule(
        "max_num_batched_tokens of vllm serve on GPUs of 160 GiB and more",
        8192,
        {"0.28.0": 16384},
        "engine/arg_utils.py (get_batch_defaults)",
    )
    hybrids_keep_prefixes = Rule(
        "prefix caching of hybrids by default",
        old=False,
        since={"0.28.0": True},
        source="engine/arg_utils.py (_set_default_chunked_prefill_and_prefix_caching_args)",
    )
    cache_dtypes = Rule(
        "formats of kv_cache_dtype",
        _FP8,
        {
            **{"0.11.0": _BF16, "0.11.1": _DS_MLA, "0.18.0": _FP16, "0.20.0": _PER_HEAD, "0.25.0": _INT4},
            **{"0.28.0": _NVFP4, "0.30.0": _NVFP4_DS_MLA},
        },
        "config/cache.py (CacheDType)",
    )
    reads_checkpoint_dtype = Rule(
        "kv_cache_dtype auto: the format that the checkpoint names",
        old=False,
        since={"0.14.0": True},
        source="utils/torch_utils.py (resolve_kv_cache_dtype_string)",
    )
    auto_fits_length = Rule(
        "max_model_len -1: the longest that fits", old=False, since={"0.14.0": True}, source=_PLANNING
    )
    nemotron_states = Rule(
        "default format of Nemotron-H's recurrent states (read from its config since 0.13)",
        "auto",
        {"0.13.0": "float16", "0.20.0": "float32"},
        f"{_MODEL_CONFIGS} (NemotronHForCausalLMConfig)",
    )
    keeps_model_dtype = Rule(
        "types whose layers ignore kv_cache_dtype",
        (),
        {"0.11.1": ("falcon", "mimo_v2_flash"), "0.32.0": ("falcon",)},
        "model_executor/models/falcon.py, mimo_v2.py; v1/worker/gpu_model_runner.py",
    )

    # blocks of a request
    batches_in_flight = Rule(
        "tokens kept behind a window or chunk: of all batches in flight, not of one",
        old=False,
        since={"0.26.0": True},
        source=f"{_SPECS} (max_admission_blocks_per_request)",
    )
    keeps_for_drafts = Rule(
        "tokens kept behind a window for draft modules that read ahead",
        old=False,
        since={"0.28.0": True},
        source=f"{_SPECS} (extra_retained_tokens)",
    )
    encoder_takes_batch = Rule(
        "cross-attention: max_num_batched_tokens are reserved, not the encoder's length",
        old=False,
        since={"0.13.0": True},
        source="config/scheduler.py (max_num_encoder_input_tokens)",
    )
    prefix_states = Rule(
        "states that prefix caching keeps",
        PrefixStates.NONE,
        {"0.11.1": PrefixStates.ALL, "0.15.0": PrefixStates.ALL_OR_ALIGN, "0.28.0": PrefixStates.ALIGN},
        f"{_MODEL_CONFIGS} (MambaModelConfig)",
    )
    draft_models = Rule(
        "a whole model drafts for another",
        old=False,
        since={"0.15.0": True},
        source="config/speculative.py",
    )
    drafts_in_one_group = Rule(
        "a draft model's layers must share one group of blocks",
        old=True,
        since={"0.32.0": False},
        source="v1/spec_decode/llm_base_proposer.py; v1/worker/gpu/spec_decode/standalone_ar/",
    )
    counts_draft_states = Rule(
        "a block of states for each draft token",
        old=False,
        since={"0.15.0": True},
        source=f"{_SPECS} (MambaSpec)",
    )
    kda_checkpoints = Rule(
        "Kimi-K3's layers take a block for a checkpoint",
        old=False,
        since={"0.29.0": True},
        source="models/kimi_k3/nvidia/kda.py",
    )
    mamba2_checkpoints = Rule(
        "Mamba2 layers take a block for a checkpoint",
        old=False,
        since={"0.32.0": True},
        source="model_executor/layers/mamba/mamba_mixer2.py",
    )
    gdn_checkpoints = Rule(
        "Gated DeltaNet layers take a block for a checkpoint, and blocks of 64 tokens",
        old=False,
        since={"0.33.0": True},
        source="model_executor/layers/mamba/gdn",
    )

    # block sizes and pages
    latent_blocks = Rule(
        "tokens of a block of latents",
        LatentBlocks.CUTLASS,
        {"0.15.0": LatentBlocks.FLASHINFER, "0.18.0": LatentBlocks.KERNELS},
        "platforms/cuda.py (check_and_update_config)",
    )
    latent_hybrid_step = Rule(
        "block of hybrids with latents: a multiple of these tokens", 64, {"0.20.0": 1, "0.27.0": 128}, _HYBRID_BLOCKS
    )
    aligns_to_block_size = Rule(
        "block of hybrids: a multiple of the requested block_size",
        old=False,
        since={"0.20.0": True},
        source=_HYBRID_BLOCKS,
    )
    pads_values = Rule(
        "values are padded to the width of their keys",
        old=True,
        since={"0.20.0": False},
        source="model_executor/models/mimo_v2_flash.py",
    )

    # groups
    unifies_chunks = Rule(
        "layers with chunks are allocated in full",
        old=True,
        since={"0.14.0": False},
        source="envs.py (VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE)",
    )
    shares_tables_by_type = Rule(
        "layers of one type share blocks, each with its own page",
        old=False,
        since={"0.11.0": True},
        source=f"{_SPECS} (UniformTypeKVCacheSpecs)",
    )
    unequal_pages = Rule(
        "layers of several types with pages of several sizes",
        UnequalPages.REFUSED,
        {
            "0.12.0": UnequalPages.ENLARGED,
            "0.24.0": UnequalPages.PADDED,
            "0.26.0": UnequalPages.STATES_PADDED,
            "0.27.0": UnequalPages.PROMOTED,
        },
        f"{_PLANNING} (unify_kv_cache_spec_page_size)",
    )
    padded_group_ratio = Rule(
        "groups are as large as the largest kind of layers, if below this multiple of the smallest",
        Fraction(1),
        {"0.12.0": Fraction(5, 4), "0.18.0": Fraction(3, 2)},
        f"{_PLANNING} (_get_kv_cache_groups_uniform_page_size)",
    )
    packing = Rule(
        "DeepSeek-V4: pages of one block",
        Packing.TUPLES,
        {"0.23.0": Packing.BY_PAGE, "0.27.0": Packing.DENSE},
        f"{_PLANNING} (_get_packed_kv_cache_layout)",
    )

    cohere_sees_itself = Rule(
        "windows of Cohere 2 hold sliding_window tokens plus the query's own",
        old=False,
        since={"0.29.0": True},
        source="model_executor/models/commandr.py, cohere2_moe.py",
    )

    # capacity
    request_blocks = Rule(
        "blocks of a request of max_model_len tokens",
        RequestBlocks.ALL_PAGES,
        {"0.24.0": RequestBlocks.FIRST_PAGES, "0.27.0": RequestBlocks.EACH_GROUP},
        f"{_PLANNING} (get_max_concurrency_for_kv_cache_config)",
    )
    reported_tokens = Rule(
        "tokens of 'GPU KV cache size'",
        Reported.BY_BLOCKS,
        {"0.20.1": Reported.BY_CONCURRENCY},
        f"{_PLANNING} (get_kv_cache_capacity)",
    )
    counts_states_by_block_size = Rule(
        "models with only states: tokens are blocks * block_size",
        old=True,
        since={"0.11.0": False},
        source=_PLANNING,
    )
    fit_check = Rule(
        "what one request of max_model_len must fit",
        FitCheck.LAYERS,
        {"0.14.0": FitCheck.FIRST_GROUP, "0.19.0": FitCheck.GROUPS},
        f"{_PLANNING} (_max_memory_usage_bytes_from_groups)",
    )
    reserves_null_block = Rule(
        "the block that is never given out is excluded from that memory",
        old=False,
        since={"0.29.0": True},
        source=_PLANNING,
    )
