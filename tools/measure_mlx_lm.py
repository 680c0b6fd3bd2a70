"""Measures MLX-LM into rows: for each question, the bytes of all arrays that its caches really hold.

    python3 -m venv mlx && mlx/bin/pip install mlx-lm==0.32.2 'mlx[cpu]==0.32.4'
    mlx/bin/python tools/measure_mlx_lm.py tests/data/mlx_lm.jsonl.gz measured.jsonl.gz

Reads rows of the form {"name", "config", "question": {"tokens", "engine_settings"}} and writes them again with what
this MLX-LM takes as `want`, {"refused": true} if it fails; for a new release, run the same command with another
version.
Needs: mlx-lm, and mlx with a CPU build (Linux) or Metal. No weights: each model of the config is built with random
ones in bfloat16, so configs must be small. --only NAME measures the rows of one name, --check compares and writes none.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes

Row = dict[str, Any]
_WEIGHTS_SCALE = 0.02


def measured_bytes(row: Row) -> int:
    """Bytes of the caches once the question's tokens are in: a prompt, and the rest decoded one by one."""
    settings = dict(row["question"]["engine_settings"])
    tokens = row["question"]["tokens"]
    prompt = settings.pop("prompt_tokens", tokens)
    model = _model(json.dumps(row["config"]))
    caches = make_prompt_cache(model, settings.pop("max_kv_size", None))
    generated = generate_step(
        mx.zeros((prompt,), mx.int32) + 1, model, max_tokens=tokens - prompt, prompt_cache=caches, **settings
    )
    for _ in generated:
        pass
    mx.eval([cache.state for cache in caches])
    return sum(array.nbytes for cache in caches for array in _arrays(vars(cache)))


def _arrays(value: object) -> Iterator[mx.array]:
    """Every array inside a cache, in any container."""
    if isinstance(value, mx.array):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _arrays(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _arrays(inner)
    elif type(value).__module__.startswith("mlx_lm."):
        yield from _arrays(vars(value))


@cache
def _model(config: str) -> Any:
    """Model of a config with random weights in bfloat16."""
    values = json.loads(config)
    model_class, arguments = _get_classes(values)
    model = model_class(arguments.from_dict(values))
    model.update(tree_map(_weight, model.parameters()))
    mx.eval(model.parameters())
    return model


def _weight(weight: mx.array) -> mx.array:
    is_float = mx.issubdtype(weight.dtype, mx.floating)
    return (mx.random.normal(weight.shape) * _WEIGHTS_SCALE).astype(mx.bfloat16) if is_float else weight


def _compute_gather_mm_in_float32() -> None:
    """On a CPU MLX has it for float32 alone; what it returns keeps the model's format, and no cache is touched."""
    original = mx.gather_mm

    def gather_mm(a: mx.array, b: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return original(a.astype(mx.float32), b.astype(mx.float32), *args, **kwargs).astype(a.dtype)

    mx.gather_mm = gather_mm


def _asked(row: Row) -> Row:
    """The row with what this MLX-LM does as what is wanted."""
    try:
        want: Row = {"total_bytes": measured_bytes(row)}
    except Exception as error:  # whatever MLX-LM fails with
        want = {"refused": True}
        print(f"{row['name']}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
    return {**row, "want": want}


def main() -> int:
    """Measures every row that is asked for. Returns 1 if --check finds a number that differs from the row's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="rows, gzipped JSON lines")
    parser.add_argument("measured", type=Path, nargs="?", help="output file")
    parser.add_argument("--only", help="measure only the rows of this name")
    parser.add_argument("--check", action="store_true", help="compare with the rows' own numbers and write nothing")
    options = parser.parse_args()
    if not (options.check or options.measured):
        parser.error("say where the measured rows go, or --check")
    if not mx.metal.is_available():
        _compute_gather_mm_in_float32()
    with gzip.open(options.questions, "rt") as lines:
        rows = [row for row in map(json.loads, lines) if options.only in (None, row["name"])]
    found = [_asked(row) for row in rows]
    if not options.check:
        with gzip.open(options.measured, "wt") as out:
            out.writelines(f"{json.dumps(row)}\n" for row in found)
        return 0
    wrong = [(row, new) for row, new in zip(rows, found, strict=True) if row["want"] != new["want"]]
    for row, new in wrong:
        print(f"{row['name']} {row['question']}: {row['want']}, now {new['want']}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} as before")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
