"""How vLLM plans its KV cache, step by step in the order of its start-up.

`run` settles the settings, `layers` says what each layer caches, `backends` which kernels read it, `block_sizes` how
many tokens a block holds, `grouping` (and `packing`) which layers share a block table, `planner` combines them, and
`plan` computes what fits. `versions` is the table of changes.

Established by reading vLLM and by running its own planner without a GPU. Sources are paths within vLLM's repository, as
they are in the newest version of the table.
"""

from kvcalc.engines.vllm.engine import Vllm

ENGINE = Vllm
