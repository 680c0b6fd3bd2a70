"""SGLang: token pools with one page size, a Mamba pool for states, and how many tokens fit.

`resolution` derives its arguments for a model, `tensors` has what it stores for a layer, `pools` the pool sizes,
`compressed` and `compressed_pools` the same for DeepSeek-V4, and `plan` what fits. Sources are paths within SGLang's
repository, as they are in the newest version of `versions`.
"""

from kvcalc.engines.sglang.engine import Sglang

ENGINE = Sglang
