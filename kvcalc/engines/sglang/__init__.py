"""SGLang: token pools of one page size, a Mamba pool for states, and how many tokens of them fit.

`resolution` says what it makes of its arguments for a model, `tensors` what it stores of a layer, `pools` how large its
pools are, `compressed` and `compressed_pools` the same of DeepSeek-V4, and `plan` what fits. Sources are paths within
SGLang's repository, as they are in the newest version of `versions`.
"""

from kvcalc.engines.sglang.engine import Sglang

ENGINE = Sglang
