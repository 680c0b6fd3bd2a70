"""What a context of llama.cpp allocates, byte for byte.

`architectures` has what each architecture's class decides, `cells` the number of cells of a context, `tensors` their
contents. Sources are files of llama.cpp as in the newest llama-cpp-python of `versions`.
"""

from kvcalc.engines.llama_cpp.engine import LlamaCpp

ENGINE = LlamaCpp
