"""Settings of LMDeploy's engines, and their valid values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kvcalc.engines.base import Engine
from kvcalc.engines.base.settings import count_from, flag, one_of, setting
from kvcalc.engines.lmdeploy.versions import LmdeployRelease
from kvcalc.errors import InvalidValueError
from kvcalc.hardware import gpu_named
from kvcalc.units import shown

PYTORCH, TURBOMIND = "pytorch", "turbomind"
NONE, INT4, INT8, FP8, FP8_E5M2, TURBO_QUANT = 0, 4, 8, 16, 17, 42
"""Values of QuantPolicy (messages.py)."""
POLICY_NAMES = {INT4: "int4", INT8: "int8", FP8: "fp8", FP8_E5M2: "fp8_e5m2", TURBO_QUANT: "turbo_quant"}
"""Also accepted by --quant-policy (cli/utils.py)."""
BY_KV_DTYPE = {"int4": INT4, "int8": INT8, "fp8": FP8}
_LEAST_KERNEL_BLOCK, _LEAST_BLOCKS = 16, 16
_BATCHES = {"a100": 384, "a800": 384, "h100": 1024, "h800": 1024, "l20y": 1024, "h200": 1024}
_OTHER_BATCHES = 128
"""Default concurrent sequences (max_batch_size), by the driver's name of the GPU (utils.py)."""


@dataclass(frozen=True)
class LmdeploySettings(Engine):
    """Fields of PytorchEngineConfig and TurbomindEngineConfig, with LMDeploy's names and defaults."""

    RELEASE = LmdeployRelease
    ALIASES: ClassVar[dict[str, str]] = {"cache_block_seq_len": "block_size"}

    version: str = setting(LmdeployRelease.newest(), "version of LMDeploy")
    backend: str = setting(PYTORCH, "engine of LMDeploy that serves the model: pytorch or turbomind")
    gpu: str = setting(
        "h100-80gb",
        "a name listed by `kvcalc gpus`; it decides max_batch_size, and from Hopper on FlashMLA reads latents",
    )
    block_size: int = setting(64, "tokens of a block; cache_block_seq_len of TurboMind and of the command line")
    kernel_block_size: int = setting(-1, "tokens that a kernel reads at once, each padded to 256 bytes; -1: a block")
    quant_policy: int = setting(
        NONE,
        "0 (the model's dtype), 8 or 4 bits with scale and zero for each token and head, 16 (fp8_e4m3), 17 (fp8_e5m2) "
        "or 42 (TurboQuant: 4-bit keys, 2-bit values); if 0, kv_dtype int8, int4 or fp8 sets it",
    )
    cache_max_entry_count: float = setting(0.8, "share of the free memory, after states and logits, for blocks")
    num_gpu_blocks: int = setting(0, "fixed number of blocks; 0: as many as fit")
    max_batch_size: int | None = setting(
        None, "concurrent sequences; default: 1024 on H100 and H200, 384 on A100, otherwise 128"
    )
    max_prefill_token_num: int = setting(8192, "tokens of an iteration, whose logits need memory")
    session_len: int | None = setting(None, "longest session, in tokens; default: the model's context")
    prefix_cache_state_budget: int = setting(0, "extra slots of states, for prefixes")
    num_speculative_tokens: int = setting(1, "draft tokens, if the model's draft layers are loaded")
    use_flash_mla: bool | None = setting(
        None,
        "whether FlashMLA reads latents, in blocks of 64 only; default: from Hopper on, where it must be installed",
    )
    fp32_mamba_ssm_dtype: bool = setting(
        False, "LMDEPLOY_FP32_MAMBA_SSM_DTYPE: recurrent states of Qwen3.5 in float32 instead of bf16"
    )
    dsa_indexer_max_logits_mb: int = setting(
        512, "LMDEPLOY_DSA_INDEXER_MAX_LOGITS_MB: MiB reserved for the scores of an indexer"
    )
    vocab_size: int | None = setting(None, "logits per token; default: from the model's config")

    def __post_init__(self) -> None:
        gpu_named(self.gpu)
        one_of(self.backend, "backend", (PYTORCH, TURBOMIND))
        one_of(self.quant_policy, "quant_policy", (NONE, INT8, INT4, FP8, FP8_E5M2, TURBO_QUANT))
        self._check_counts()
        self._check_blocks()
        count = self.cache_max_entry_count
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 < count < 1:
            raise InvalidValueError(
                f"cache_max_entry_count must be above 0 and below 1, not {shown(count)}",
                field="cache_max_entry_count",
                help="write cache_max_entry_count=0.8: it is a share, not a number of blocks",
            )
        if self.use_flash_mla is not None:
            flag(self.use_flash_mla, "use_flash_mla")
        flag(self.fp32_mamba_ssm_dtype, "fp32_mamba_ssm_dtype")

    def _check_counts(self) -> None:
        for field, least in (
            *(("block_size", 1), ("max_batch_size", 1), ("session_len", 1)),
            *(("num_gpu_blocks", 0), ("max_prefill_token_num", 0), ("prefix_cache_state_budget", 0)),
            *(("num_speculative_tokens", 1), ("dsa_indexer_max_logits_mb", 1), ("vocab_size", 1)),
        ):
            count_from(getattr(self, field), field, least)
        if 0 < (self.num_gpu_blocks or 0) < _LEAST_BLOCKS:
            raise InvalidValueError(
                f"num_gpu_blocks should be greater than {_LEAST_BLOCKS}, but got {self.num_gpu_blocks}",
                field="num_gpu_blocks",
                help="set it to 0 for as many as fit",
            )

    def _check_blocks(self) -> None:
        if self.backend == TURBOMIND:
            return
        kernel = self.kernel_block
        if type(kernel) is not int or kernel < _LEAST_KERNEL_BLOCK or kernel & (kernel - 1):
            raise InvalidValueError(
                f"kernel_block_size must be >= {_LEAST_KERNEL_BLOCK} and a power of 2, but got {shown(kernel)}",
                field="block_size" if self.kernel_block_size == -1 else "kernel_block_size",
                help="write block_size=64, or kernel_block_size=16 with block_size a multiple of it",
            )
        if self.block_size % kernel:
            raise InvalidValueError(
                "block_size must be >= kernel_block_size and an integer multiple of kernel_block_size, but got "
                f"block_size {self.block_size} and kernel_block_size {kernel}",
                field="kernel_block_size",
                help="remove kernel_block_size",
            )

    @property
    def kernel_block(self) -> int:
        """Tokens that a kernel reads at once, as set."""
        return self.block_size if self.kernel_block_size == -1 else self.kernel_block_size

    @property
    def batches(self) -> int:
        """Concurrent sequences: as set, or by the GPU."""
        name = gpu_named(self.gpu).name
        by_gpu = next((number for part, number in _BATCHES.items() if part in name), _OTHER_BATCHES)
        return self.max_batch_size or by_gpu

    @property
    def release_words(self) -> str:
        """The version, and which of its two engines."""
        return self.version if self.backend == PYTORCH else f"{self.version}, TurboMind"
