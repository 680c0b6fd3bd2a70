"""Which attention kernels vLLM takes for a layer: what each of its backends refuses, and where the border lies.

Rows are read off vLLM 0.33.0, v1/attention/backends/*.py (supports_* and validate_configuration) and platforms/cuda.py.
"""

from __future__ import annotations

import pytest

from kvcalc.engines.vllm.backends import BACKENDS, Need, choose

PLAIN = Need(width=128, cache_dtype="auto", model_dtype="bfloat16", block_size=None, query_heads=32, kv_heads=8)
LATENT = PLAIN._replace(width=576, mla=True, no_position_width=128, query_heads=128, gathered_heads=128)
SPARSE = LATENT._replace(sparse=True)
HEADS, SINK = "head_size not supported", "sink not supported on compute capability < 9.0"
FA_FP8 = "FP8 KV cache requires FA3 on SM90, FA4 with head_size=512 on SM90, or FA4 on SM100"
FA_IMAGES = "mm_prefix (PrefixLM bidirectional attention) requires FlashAttention v4"
FA_IMAGES_FP8 = "SM90 FP8 KV with mm_prefix requires Triton"
CAPABILITY, SINKS = "compute capability not supported", "attention sinks not supported"
FA4_HEADS = "FA4 sparse MLA requires (8, 16, 32, 64, 128) gathered query heads up to"


def refused(name, need, capability):
    return list(BACKENDS[name].refusals(need, capability))


@pytest.mark.parametrize(
    ("name", "need", "capability", "reasons"),
    [
        ("FLASH_ATTN", PLAIN, (8, 0), []),
        ("FLASH_ATTN", PLAIN, (7, 5), [CAPABILITY]),
        ("FLASH_ATTN", PLAIN._replace(width=256), (8, 6), []),
        ("FLASH_ATTN", PLAIN._replace(width=264), (8, 6), [HEADS]),
        ("FLASH_ATTN", PLAIN._replace(width=512), (9, 0), []),
        ("FLASH_ATTN", PLAIN._replace(width=512), (10, 0), []),
        ("FLASH_ATTN", PLAIN._replace(width=512), (12, 0), [HEADS]),
        ("FLASH_ATTN", PLAIN._replace(width=520), (9, 0), [HEADS]),
        ("FLASH_ATTN", PLAIN._replace(width=100), (9, 0), [HEADS]),
        ("FLASH_ATTN", PLAIN._replace(sinks=True), (8, 9), [SINK]),
        ("FLASH_ATTN", PLAIN._replace(sinks=True), (9, 0), []),
        *(("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8"), on, []) for on in ((9, 0), (10, 0), (10, 3))),
        *(("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8"), on, [FA_FP8]) for on in ((8, 9), (12, 0))),
        ("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8", width=256), (9, 0), []),
        ("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8", width=512), (9, 0), []),
        ("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8", width=264), (9, 0), [FA_FP8]),
        ("FLASH_ATTN", PLAIN._replace(cache_dtype="fp8", width=256), (10, 0), [FA_FP8]),
        ("FLASH_ATTN", PLAIN._replace(images_whole=True), (9, 0), [FA_IMAGES]),
        ("FLASH_ATTN", PLAIN._replace(images_whole=True), (10, 0), []),
        ("FLASH_ATTN", PLAIN._replace(images_whole=True, width=136), (10, 0), [FA_IMAGES]),
        ("FLASH_ATTN", PLAIN._replace(images_whole=True, width=512), (9, 0), []),
        ("FLASH_ATTN", PLAIN._replace(images_whole=True, width=512, cache_dtype="fp8"), (9, 0), [FA_IMAGES_FP8]),
        ("FLASHINFER", PLAIN, (12, 1), []),
        ("FLASHINFER", PLAIN, (12, 2), [CAPABILITY]),
        ("FLASHINFER", PLAIN._replace(width=96), (9, 0), [HEADS]),
        *(("FLASHINFER", PLAIN._replace(sinks=True), on, []) for on in ((9, 0), (10, 0), (12, 0))),
        ("FLASHINFER", PLAIN._replace(sinks=True), (8, 0), [SINKS]),
        ("TRITON_ATTN", PLAIN._replace(width=32), (7, 5), []),
        ("TRITON_ATTN", PLAIN._replace(width=31), (7, 5), [HEADS]),
        ("TURBOQUANT", PLAIN._replace(cache_dtype="turboquant_k8v4", windowed=True), (9, 0), ["sliding window not supported"]),
        ("FLASHMLA", LATENT, (9, 0), []),
        ("FLASHMLA", LATENT, (10, 0), ["FlashMLA Dense is only supported on Hopper devices."]),
        ("FLASHINFER_MLA", LATENT._replace(no_position_width=192), (10, 0), []),
        ("FLASH_ATTN_MLA_SPARSE_FA4", SPARSE, (10, 0), []),
        ("FLASH_ATTN_MLA_SPARSE_FA4", SPARSE._replace(dcp=True), (10, 0), [f"{FA4_HEADS} 64, got 128"]),
        ("FLASH_ATTN_MLA_SPARSE_FA4", SPARSE._replace(dcp=True, gathered_heads=64), (10, 0), []),
        ("FLASH_ATTN_MLA_SPARSE_FA4", SPARSE._replace(gathered_heads=24), (10, 0), [f"{FA4_HEADS} 128, got 24"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_backend_refuses(name, need, capability, reasons):
    assert refused(name, need, capability) == reasons


@pytest.mark.parametrize(
    ("need", "capability", "name", "blocks"),
    [
        (PLAIN, (9, 0), "FLASH_ATTN", (16,)),
        (PLAIN, (10, 0), "FLASHINFER", (16, 32, 64, 128, 256, 512, 1024)),
        (PLAIN._replace(query_heads=8), (10, 0), "FLASHINFER", (16, 32, 64)),
        (PLAIN, (7, 5), "TRITON_ATTN", (16,)),
        (PLAIN._replace(cache_dtype="fp8", width=512), (9, 0), "FLASH_ATTN", (64,)),
        (PLAIN._replace(width=96), (10, 0), "FLASH_ATTN", (16,)),
        (LATENT, (9, 0), "FLASH_ATTN_MLA", (16,)),
        (LATENT, (10, 0), "FLASHINFER_MLA", (32, 64)),
        (LATENT, (12, 0), "TRITON_MLA", (16,)),
        (SPARSE, (10, 0), "FLASHMLA_SPARSE", (64,)),
        (SPARSE._replace(query_heads=16, gathered_heads=16), (10, 0), "FLASH_ATTN_MLA_SPARSE_FA4", (64,)),
        (SPARSE._replace(query_heads=17, gathered_heads=17), (10, 0), "FLASHMLA_SPARSE", (64,)),
    ],
    ids=str,
)
def test_which_backend_is_taken_and_its_blocks(need, capability, name, blocks):
    chosen = choose(need, capability)
    assert (chosen.name, chosen.block_sizes) == (name, blocks)
