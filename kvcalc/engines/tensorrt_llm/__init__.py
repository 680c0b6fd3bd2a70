"""TensorRT-LLM 1.x with its KV-cache manager V1: blocks of tokens_per_block, in a pool for each attention window."""

from kvcalc.engines.tensorrt_llm.engine import TensorrtLlm

ENGINE = TensorrtLlm
