"""Start-up of the command line in CPU time, as ratios to `python -c "import typer"` run beside it.

Budgets: JSON 1.5, table 2.0, --help 1.5, each at most; a config.json 1.2 times the same model as a preset. Run it with
the Python of an installed kvcalc:

    python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from _processes import KVCALC, asked_runs, cpu_seconds

R1 = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    **{f"field_{number}": number for number in range(40)},
}
"""What DeepSeek-R1's config.json says of its cache, and as many fields again as it has."""
CONFIG_BUDGET = 1.2
BASE = [sys.executable, "-c", "import typer"]
SIZE = [*KVCALC, "size", "--preset", "r1", "--tokens", "100000"]
COMMANDS = {
    "size --format json": ([*SIZE, "--format", "json"], 1.5),
    "size (table)": (SIZE, 2.0),
    "--help": ([*KVCALC, "--help"], 1.5),
}


def main() -> None:
    runs = asked_runs(__doc__, 15)
    print("CPU time against `python -c 'import typer'`, median of the ratios of pairs run one after the other")
    for name, (command, budget) in COMMANDS.items():
        told(name, command, BASE, budget, runs)
    print("and of `size --model config.json` against `size --preset` of the same model")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(R1, indent=2))
        from_config = [*KVCALC, "size", "--model", str(path), "--tokens", "100000"]
        told("size --model", from_config, SIZE, CONFIG_BUDGET, runs)


def told(name: str, command: list[str], base: list[str], budget: float, runs: int) -> None:
    """Prints the ratio of a command to the one that it is measured against."""
    cpu_seconds(command), cpu_seconds(base)
    ratios = [cpu_seconds(command) / cpu_seconds(base) for _ in range(runs)]
    print(f"  {name:20} {statistics.median(ratios):.2f}  (budget {budget}, {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
