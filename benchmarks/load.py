"""Loading a config.json and sizing it at 1,000 token counts, against json.load of the file and one numpy pass.

Budget: 2. `first` reads a config that kvcalc has not seen, `again` one that it has (it remembers the last files).

    python benchmarks/load.py path/to/config.json [...]

Without paths it writes a DeepSeek-V3 and a Qwen3-Next config and uses those.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import kvcalc
from kvcalc.io import loading

BUDGET = 2
RUNS = 200
TOKENS = np.arange(1, 1001) * 100
CONFIGS = {
    "deepseek_v3": {
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "hidden_size": 7168,
    },
    "qwen3_next": {
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "hidden_size": 2048,
        "full_attention_interval": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    },
}
"""Facts of the published configs; what else stands there is padded with fields that mean nothing."""
USUAL_FIELDS = 50


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def base(path: Path) -> object:
    """The unavoidable work: the file as JSON, and one pass over the counts."""
    with path.open() as file:
        json.load(file)
    return TOKENS * 70_272


def ours(path: Path) -> object:
    return kvcalc.sweep(kvcalc.load(path), tokens=TOKENS)


def written(folder: Path) -> list[Path]:
    """Configs of the usual size."""
    paths = []
    for model_type, facts in CONFIGS.items():
        rest = {f"field_{number}": number for number in range(USUAL_FIELDS - len(facts))}
        paths.append(folder / f"{model_type}.json")
        paths[-1].write_text(json.dumps({"model_type": model_type, **facts, **rest}, indent=2))
    return paths


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(argument) for argument in sys.argv[1:]] or written(Path(folder))
        print(f"load a config.json and size it at {len(TOKENS):,} counts, against json.load and one numpy pass")
        for path in paths:
            ours(path)
            times: dict[str, list[float]] = {"base": [], "first": [], "again": []}
            for _ in range(RUNS):  # side by side, so that a machine that slows down slows all of them
                times["base"].append(seconds(lambda path=path: base(path)))
                loading.forget()
                times["first"].append(seconds(lambda path=path: ours(path)))
                times["again"].append(seconds(lambda path=path: ours(path)))
            median = {name: statistics.median(values) for name, values in times.items()}
            first, again = median["first"] / median["base"], median["again"] / median["base"]
            print(f"  {path.stem:40} first {first:.2f}  again {again:.2f}  (budget {BUDGET})")


if __name__ == "__main__":
    main()
