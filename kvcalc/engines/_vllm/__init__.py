"""How vLLM plans its KV cache, step by step in the order of its start-up; `kvcalc.engines.vllm` is the entry.

`run` settles the settings, `layers` says what each layer caches, `backends` which kernels read it, `block_sizes` how
many tokens a block holds, `grouping` (and `packing`) which layers share a block table, `capacity` what fits.

Established by reading vLLM 0.33.0 and by running its own planner without a GPU.
"""

VERSION = "0.33.0"
