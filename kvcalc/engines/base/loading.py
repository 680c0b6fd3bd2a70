"""Weight formats that servers for NVIDIA GPUs load, common ones first, each with the minimum compute capability.

Source: docs.vllm.ai, Supported Hardware of quantisation (Marlin for FP8 and FP4 from Turing on, as 16-bit activations).
"""

from __future__ import annotations

from collections.abc import Mapping

_VOLTA, _TURING = (7, 0), (7, 5)
GGUF = dict.fromkeys(("q4_k_m", "q5_k_m", "q6_k", "q8_0"), (0, 0))
"""Of llama.cpp, on any device; those found in most GGUF repositories."""
MLX = dict.fromkeys((f"mlx-{bits}bit" for bits in (3, 4, 5, 6, 8)), (0, 0))
QUANTISED: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("fp8", "fp8-channel", "fp8-tensor", "int8", "gptq-8bit"), _TURING),
    **dict.fromkeys(("awq", "int4", "int4-experts", "gptq", "nvfp4", "mxfp4"), _TURING),
    **dict.fromkeys(("bnb-4bit", "bnb-8bit"), _VOLTA),
}
