"""Runs in a process of its own: contexts of the real llama.cpp over a GGUF file of metadata alone, and what it logs.

    python llama_cpp_contexts.py model.gguf '[{"n_ctx": 4096, "n_seq_max": 1, ...}, ...]'

prints a line of JSON for each: {"refused": the last errors, or null, "log": [...]}. No tensor is loaded, and no memory is
taken but that of states. Where the model itself does not load there is one line.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
"""ggml_type."""


class _GgufInit(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def _gguf_library() -> ctypes.CDLL:
    folder = Path(llama_cpp.__file__).parent / "lib"
    return ctypes.CDLL(str(next(path for path in folder.iterdir() if path.name.startswith("libggml-base"))))


def main(path: str, contexts: list[dict]) -> None:
    """Loads, makes the contexts, and prints."""
    log: list[str] = []
    listener = llama_cpp.llama_log_callback(lambda level, text, user: log.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(listener, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    library = _gguf_library()
    library.gguf_init_from_file.argtypes = (ctypes.c_char_p, _GgufInit)
    library.gguf_init_from_file.restype = ctypes.c_void_p
    metadata = library.gguf_init_from_file(path.encode(), _GgufInit(True, None))
    model_params = llama_cpp.llama_model_default_params()
    model_params.no_alloc = True
    model_params.n_gpu_layers = 0
    nothing = llama_cpp.llama_model_set_tensor_data_t(lambda tensor, user: None)
    model = llama_cpp.llama_model_init_from_user(metadata, nothing, None, model_params)
    for settings in contexts if model else ({},):
        if model:
            log.clear()
        params = llama_cpp.llama_context_default_params()
        for name, value in settings.items():
            setattr(params, "flash_attn_type" if name == "flash_attn" else name, TYPES.get(value, value))
        context = llama_cpp.llama_init_from_model(model, params) if model else None
        lines = "".join(log).splitlines()
        print(json.dumps({"refused": None if context else "; ".join(lines[-3:]), "log": lines}), flush=True)
        if context:
            llama_cpp.llama_free(context)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
