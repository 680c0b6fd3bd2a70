"""What transformers really holds as KV and state cache, measured on tiny random models on the CPU.

`python tests/peers/measure.py OUT.jsonl [TYPE...]` appends one row per model: its config.json and what its cache took.
Without types it takes every model type that transformers can generate text with. A type that cannot be run becomes a
row with `failed`, the reasons, instead of `cases`.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from shrinking import VARIANTS, tiny_config
from transformers import CONFIG_MAPPING

from kvcalc.verify.transformers.classes import TASKS, build, model_classes, text_part
from kvcalc.verify.transformers.held import counted, held_by
from kvcalc.verify.transformers.inputs import encoder_inputs, inputs_beside, token_ids
from kvcalc.verify.transformers.running import STEPS_IN_GENERATE, cache_after, cache_in

torch.set_num_threads(1)  # several processes measure side by side
Row = dict[str, Any]
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
BOILERPLATE = {
    *("id2label", "label2id", "problem_type", "architectures", "transformers_version", "return_dict", "use_cache"),
    *("output_hidden_states", "output_attentions", "chunk_size_feed_forward", "tie_word_embeddings"),
    *("initializer_range", "attention_dropout"),
}


class Case(NamedTuple):
    """One run: a prefill of `prompt` tokens for `batch` sequences, then `decode` tokens one by one."""

    batch: int
    prompt: int
    decode: int
    cache: str = "default"
    mode: str = "forward"


CASES = (
    *(Case(1, 5, 0), Case(2, 16, 1), Case(3, 40, 0), Case(3, 40, 1), Case(2, 35, 3)),
    *(Case(2, 20, 3, cache, "generate") for cache in ("default", "static", "quantized_fp8")),
)


# ---- runs ------------------------------------------------------------------------------------------------------------


def run(model: Any, case: Case) -> Row:
    """Run one case and return it as a row of measured numbers."""
    torch.manual_seed(0)
    with torch.no_grad():
        cache, tokens = (generated if case.mode == "generate" else forwarded)(model, case)
    held = held_by(model, cache)
    row = {"mode": case.mode, "cache": case.cache, "dtype": str(model.dtype).removeprefix("torch.")}
    row |= {"batch": case.batch, "prompt_tokens": case.prompt, "decode_steps": case.decode, "cached_tokens": tokens}
    cross = [tensor for layer in held.get("cross", []) for tensor in layer]
    if cross and model.config.is_encoder_decoder:
        row["encoder_len"] = cross[0].shape[-2]
    layers = counted(held)
    everything = [layer for part in layers.values() for layer in part]
    row["bytes"] = sum(layer.logical_bytes for layer in everything)
    row["storage_bytes"] = sum(layer.storage_bytes for layer in everything)
    row["layer_bytes"] = {name: [layer.logical_bytes for layer in part] for name, part in layers.items()}
    return row


def forwarded(model: Any, case: Case) -> tuple[Any, int]:
    """The cache after a prefill and single decode steps, with the cache that the model makes by itself."""
    cache = cache_after(model, batch=case.batch, prompt=case.prompt, decode=case.decode)
    return cache, case.prompt + case.decode


def generated(model: Any, case: Case) -> tuple[Any, int]:
    """The cache after `generate()`, which never feeds its last token back."""
    kind: dict[str, Any] = {}
    if case.cache == "static":
        kind = {"cache_implementation": "static"}
    if case.cache == "quantized_fp8":
        kind = {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}}
    ids = token_ids(case.batch, case.prompt, model.config)
    around = encoder_inputs(model, case.batch)
    if model.config.is_encoder_decoder:
        ids[:, 0] = model.generation_config.decoder_start_token_id  # else generate() puts it in front
    around |= inputs_beside(model, ids)
    around["decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"] = ids
    output = model.generate(
        **around, **kind, max_new_tokens=case.decode + 1, do_sample=False, return_dict_in_generate=True,
        disable_compile=True, use_cache=True,
    )  # fmt: skip
    return next(iter(cache_in(output).values()), None), output.sequences.shape[1] - 1


def measured(model: Any, cases: Iterable[Case]) -> tuple[list[Row], list[Row]]:
    """Every case that the model can run, and those it refuses with the reason; the first one has to work."""
    steps_forward = model.config.model_type not in STEPS_IN_GENERATE
    first, *others = [case for case in cases if steps_forward or case.mode == "generate" or not case.decode]
    rows, refused = [run(model, first)], []
    for case in others:
        try:
            rows.append(run(model, case))
        except Exception as error:  # a cache that this type refuses, or steps that it cannot take
            refused.append({**case._asdict(), "reason": reason(error)})
    return rows, refused


def reason(error: Exception) -> str:
    """An error in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})"


# ---- rows ------------------------------------------------------------------------------------------------------------


def saved(config: Any) -> dict[str, Any]:
    """The config as transformers saves it, without what says nothing about a cache."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in BOILERPLATE}
        return value

    return plain(json.loads(config.to_json_string(use_diff=False)))


def rows_of(
    model_type: str,
    variant: str,
    dtypes: Iterable[str] = ("bfloat16", "float32"),
    cases: Sequence[Case] = CASES,
) -> Iterator[Row]:
    """A row for every task of a model type, or the reason why there is none."""
    for task, class_name in model_classes(model_type).items():
        row: Row = {"model_type": model_type, "task": task, "variant": variant}
        try:
            row |= _row(model_type, class_name, tiny_config(model_type, variant, task), dtypes, cases)
        except LookupError:  # no such variant of this type
            continue
        yield row


def _row(model_type: str, class_name: str, given: Row, dtypes: Iterable[str], cases: Sequence[Case]) -> Row:
    """The whole model run on text, else its text part alone; in the first dtype that it works in."""
    failures = []
    for part, dtype in ((part, dtype) for part in ("full", "text") for dtype in dtypes):
        try:
            config = CONFIG_MAPPING[model_type](**given)
            name, used = (class_name, config) if part == "full" else text_part(config)
            model = build(name, used, DTYPES[dtype])
            used = model.config if part == "full" else config
            held, refused = measured(model, cases)
        except Exception as error:
            failures.append(f"{part} in {dtype}: {reason(error)}")
            continue
        return {"part": part, "config": saved(used), "config_in": given, "cases": held, "refused": refused}
    return {"failed": failures}


def main(out: str, *types: str) -> None:
    """Append the rows of the types to a file."""
    for model_type in types or sorted({name for names in TASKS.values() for name in names}):
        rows = [row for variant in VARIANTS for row in rows_of(model_type, variant)]
        if any(case["dtype"] == "bfloat16" for row in rows for case in row.get("cases", [])):
            rows += rows_of(model_type, "a", ("float32",))
        with Path(out).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
