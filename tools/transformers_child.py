"""The part of measure_transformers.py that runs with the measured version: it imports nothing of kvcalc.

    python transformers_child.py asked.json told.jsonl

asked: models, each a name and a config.json; new: whether types that are not among `known` are also measured.
told: a line for each model.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "critical"}
warnings.simplefilter("ignore")

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: E402
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: E402

torch.set_num_threads(1)
VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
CACHES = ("cache", "past_key_values", "cache_params", "mems", "past_buckets_states", "state")
CASES = (  # generate() or one forward pass, sequences, prompt, tokens decoded after it, cache
    *(("forward", 1, 5, 0, "default"), ("forward", 2, 17, 0, "default"), ("forward", 2, 40, 0, "default")),
    *(("generate", 2, 7, 1, "default"), ("generate", 2, 17, 1, "default"), ("generate", 2, 40, 3, "default")),
    ("generate", 2, 20, 3, "static"),
)
DTYPES = ("bfloat16", "float32")
"""Formats to try: a few types run in the second alone."""
MAY_CACHE_NOTHING = ("openai-gpt", "xlm")
"""Types of which nothing is none; of others it is a cache that a version made and did not return."""
Row = dict[str, Any]


def model_of(config: Row, dtype: str) -> Any:
    """A model with random weights that never stops early."""
    fields = {name: value for name, value in config.items() if name != "model_type"}
    read = CONFIG_MAPPING[config["model_type"]].from_dict(fields)
    torch.manual_seed(0)
    plain = {"attn_implementation": "eager", "dtype": getattr(torch, dtype)}
    model = AutoModelForCausalLM.from_config(read, **plain).eval()
    for end in ("eos_token_id", "forced_eos_token_id"):
        setattr(model.generation_config, end, None)
    model.generation_config.pad_token_id = 0
    return model


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in a cache, but for counters."""
    if isinstance(value, torch.Tensor):
        if value.dim() and not (prod(value.shape) == 1 and not value.is_floating_point()):
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors([*value.values()])
    elif type(value).__module__.startswith("transformers.") and "Config" not in type(value).__name__:
        yield from tensors(vars(value))


def held_bytes(cache: Any) -> int:
    """Bytes of each view once, however many names it has."""
    views = {}
    for tensor in tensors(cache):
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        views[key] = tensor.numel() * tensor.element_size()
    return sum(views.values())


def cache_after(model: Any, mode: str, sequences: int, prompt: int, steps: int, cache: str) -> Any:
    """The cache that a forward pass or generate() returns; None if it returns none."""
    ids = torch.randint(3, 90, (sequences, prompt), generator=torch.Generator().manual_seed(prompt))
    with torch.no_grad():
        if mode == "forward":
            output = model(input_ids=ids, use_cache=True)
        else:
            kind = {} if cache == "default" else {"cache_implementation": cache}
            output = model.generate(
                ids, max_new_tokens=steps + 1, do_sample=False, return_dict_in_generate=True, use_cache=True,
                disable_compile=True, **kind,
            )  # fmt: skip
    return next((output[name] for name in CACHES if output.get(name) is not None), None)


def cases_of(config: Row) -> list[Row]:
    """Every case that the model can run; the last error if it can run none."""
    error: Exception | None = None
    for dtype in DTYPES:
        found = []
        try:
            model = model_of(config, dtype)
        except Exception as raised:
            error = raised
            continue
        for mode, sequences, prompt, steps, cache in CASES:
            try:
                held = held_bytes(cache_after(model, mode, sequences, prompt, steps, cache))
            except Exception as raised:
                error = raised
                continue
            if not held and not (mode == "generate" and config["model_type"] in MAY_CACHE_NOTHING):
                continue
            case = {"kv_dtype": dtype, "sequences": sequences, "prompt_tokens": prompt, "decode_steps": steps}
            found.append({**case, "cache": cache, "total_bytes": held})
        if found:
            return found
    raise error or ValueError("no case returned a cache")


def new_types(known: list[str]) -> Iterator[Row]:
    """Unknown types, in each way that they can be made small."""
    from shrinking import VARIANTS, tiny_config

    for model_type in sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - {*known}):
        for variant in VARIANTS:
            try:
                yield {"name": model_type, "config": {"model_type": model_type, **tiny_config(model_type, variant)}}
            except LookupError:
                continue


def main(asked: str, told: str) -> None:
    """Runs every model and writes a line for each."""
    request = json.loads(Path(asked).read_text())
    models = [*request["models"], *(new_types(request["known"]) if request["new"] else ())]
    with Path(told).open("w") as file:
        for model in models:
            try:
                model["cases"] = cases_of(model["config"])
            except Exception as error:
                model["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            file.write(json.dumps(model) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
