"""Ollama: its own engine, in Go, before 0.30; from 0.30 on it starts llama-server of llama.cpp.

`own` says what Ollama's own engine stores, `server` which llama.cpp it starts with which flags, `versions` since when.
"""

from kvcalc.engines.ollama.engine import Ollama

ENGINE = Ollama
