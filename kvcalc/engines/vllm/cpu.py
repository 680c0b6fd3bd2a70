"""vLLM on a CPU: its kernels, block sizes, batches and formats of states, which depend on what the CPU can compute.

Source: vLLM 0.32.0 and 0.33.0, platforms/cpu.py, v1/attention/backends/cpu_attn.py, mla/cpu_mla.py, mla/amx_mla.py,
engine/arg_utils.py; 0.32.0 was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.engines.base.versions import number_of
from kvcalc.engines.vllm.backends import Backend, Need
from kvcalc.engines.vllm.dtypes import FP8, MODEL
from kvcalc.errors import NotApplicableError
from kvcalc.hardware.written import AT

OLDEST = "0.32.0"
"""First version whose CPU platform is known."""
_REFUSES_FORMATS = (0, 33)
"""Version from which on a format without kernels is refused; before, it was stored as one byte an element."""
_DEFAULT_BLOCK, _LATENT_BLOCK = 128, 16
_LEAST_LATENT_BATCH = 2048
_BATCHED = {"server": (2048, 128), "llm": (4096, 256)}
"""max_num_batched_tokens and max_num_seqs by usage, of each rank."""
_WIDTH_STEP, _NARROW_STEP = 32, 16
"""Widths of heads that the kernels read: in steps of 32, or of 16, which have no fp8."""


class Cpu(NamedTuple):
    """A CPU by what it computes: AVX-512, AVX-512 with BF16, and AMX tiles."""

    name: str
    source: str
    avx512: bool = False
    avx512_bf16: bool = False
    amx: bool = False
    compute_capability: None = None
    """A GPU's; a CPU has none."""


_TABLE = (
    Cpu("cpu", "AVX-512 with BF16, without AMX: measured", avx512=True, avx512_bf16=True),
    Cpu("cpu-amx", "AVX-512 with BF16 and AMX: from source", avx512=True, avx512_bf16=True, amx=True),
    Cpu("cpu-avx512", "AVX-512 without BF16: from source", avx512=True),
    Cpu("cpu-avx2", "neither AVX-512 nor AMX: from source"),
)
CPUS = {cpu.name: cpu for cpu in _TABLE}


def cpu_named(name: str) -> Cpu | None:
    """CPU of that name, in any case and with memory or without (`cpu@64GB`); None for other names."""
    return CPUS.get(str(name).lower().partition(AT)[0])


_ATTENTION = Backend("CPU_ATTN", (32,), cache_dtypes=(*MODEL, *FP8))
_LATENT = Backend("CPU_MLA", (_LATENT_BLOCK,), exact=True, splits=False, mla=True)
_LATENT_BY_AMX = Backend("AMX_MLA", (32,), mla=True)


def choose_on_cpu(need: Need, cpu: Cpu, version: str) -> Backend:
    """Backend of a layer, which the CPU decides. Raises NotApplicableError for what vLLM refuses, in its words."""
    if need.sparse:
        raise NotApplicableError("Sparse Attention is not supported on CPU.", help="choose a GPU as gpu")
    if need.dcp:
        raise NotApplicableError(
            "Decode Context Parallelism (DCP) requires attention implementations to return the softmax LSE during "
            "decode, but those of a CPU do not",
            help="use dcp=1",
        )
    _check_format(need, cpu, version)
    if need.mla:
        return _LATENT_BY_AMX if cpu.amx else _LATENT
    return _ATTENTION


def _check_format(need: Need, cpu: Cpu, version: str) -> None:
    quantised = need.cache_dtype not in MODEL
    known = not quantised or (need.cache_dtype in FP8 and not need.mla and (cpu.avx512 or cpu.amx))
    if not known and (number_of(version) or ()) >= _REFUSES_FORMATS:
        by = "MLA attention on CPU" if need.mla else "the CPU attention backend on this host"
        raise NotApplicableError(
            f"--kv-cache-dtype {need.cache_dtype} is not supported by {by}.", help="set kv_cache_dtype to auto"
        )
    if quantised and not need.mla and need.width % _WIDTH_STEP and need.width % _NARROW_STEP == 0:
        raise NotApplicableError(
            f"FP8 KV cache requires head_size divisible by {_WIDTH_STEP} on CPU.", help="set kv_cache_dtype to auto"
        )
    if quantised and not need.mla and not (cpu.avx512 or cpu.amx):
        raise NotApplicableError(
            "FP8 KV cache on CPU requires x86 with AVX-512 or AMX.", help="set kv_cache_dtype to auto"
        )


def stored_on_cpu(cache_dtype: str) -> str:
    """Format whose bytes a CPU's kernels store: one byte per element for any quantised one, without scales."""
    return cache_dtype if cache_dtype in MODEL else FP8[0]


def reads_prompts_whole(cpu: Cpu | None, *, latents: bool) -> bool:
    """Whether prompts are read whole, without prefix caching: latents without AMX, with one block size."""
    return cpu is not None and latents and not cpu.amx


def block_size_on_cpu(cpu: Cpu, asked: int | None, *, latents: bool) -> int:
    """Tokens of a block: as requested, or 128; without AMX, latents have one fixed size."""
    if reads_prompts_whole(cpu, latents=latents):
        return _LATENT_BLOCK
    return asked or _DEFAULT_BLOCK


def batches_on_cpu(usage: str, ranks: int) -> tuple[int, int]:
    """Default max_num_batched_tokens and max_num_seqs: proportional to the ranks."""
    batched, sequences = _BATCHED[usage]
    return ranks * batched, ranks * sequences


def whole_prompts(longest: int) -> int:
    """max_num_batched_tokens if prompts are read whole, regardless of the setting."""
    return max(longest, _LEAST_LATENT_BATCH)


def state_dtype_on_cpu(cpu: Cpu, asked: str, *, gated_deltanet: bool) -> str | None:
    """Format of recurrent states, None if it is as on a GPU: AVX-512 with BF16 computes in float32.

    Gated DeltaNet also has 16-bit kernels, used on request.
    """
    in_sixteen_bits = gated_deltanet and asked in ("float16", "bfloat16")
    return "float32" if cpu.avx512_bf16 and not in_sixteen_bits else None


def check_kernel_blocks(blocks: Sequence[tuple[int, Backend]]) -> None:
    """Raises NotApplicableError for a group whose blocks its kernels cannot read."""
    for size, backend in blocks:
        if not backend.accepts_block(size):
            raise NotApplicableError(
                f"No common block size for {size} ({backend.name}: multiples of {backend.smallest})",
                help=f"use a multiple of {backend.smallest}, or remove block_size",
            )


def check_release(version: str) -> None:
    """Raises NotApplicableError for a version whose CPU platform is not known."""
    if (number_of(version) or ()) < (number_of(OLDEST) or ()):
        raise NotApplicableError(
            f"kvcalc models vLLM on a CPU from {OLDEST} on, not {version}", help=f"use version {OLDEST} or later"
        )
