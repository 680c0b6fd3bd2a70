"""Ollama: its own engine in Go before 0.30; from 0.30 on it starts llama.cpp's llama-server.

`own` has what Ollama's own engine stores, `server` the llama.cpp build and flags it starts, `versions` since when.
"""

from kvcalc.engines.ollama.engine import Ollama

ENGINE = Ollama
