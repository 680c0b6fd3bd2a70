"""What a context of llama.cpp allocates, byte for byte.

`architectures` says what each architecture's class decides, `cells` how many cells a context has, `tensors` what lies
in them. Sources are files of llama.cpp as in the newest llama-cpp-python of `versions`.
"""

from kvcalc.engines.llama_cpp.engine import LlamaCpp

ENGINE = LlamaCpp
