"""Start-up of the command line in CPU time, as ratios of commands run in turn: bare Python, ridgepoint, kvcalc.

Goals: JSON at most 4 times bare Python and 1.5 times ridgepoint's, if that is installed with kvcalc; the table at most
2 times the JSON, --help 1.5 times `import typer`, a config.json 1.2 times the same model as a preset. Run it with the
Python of an installed kvcalc:

    python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from _processes import asked_runs, cpu_seconds

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
SCRIPTS = Path(sys.executable).parent
KVCALC = [str(SCRIPTS / "kvcalc")]
PYTHON = [sys.executable, "-c", "pass"]
TYPER = [sys.executable, "-c", "import typer"]
TABLE = [*KVCALC, "size", "--preset", "r1", "--tokens", "100000"]
JSON = [*TABLE, "--format", "json"]
RIDGEPOINT = [str(SCRIPTS / "ridgepoint"), "fit", "deepseek-r1", "--json"]


def main() -> None:
    runs = asked_runs(__doc__, 15)
    print("CPU time against that of another command, median of the ratios of pairs run one after the other")
    told("size --format json / python", JSON, PYTHON, 4, runs)
    if Path(RIDGEPOINT[0]).exists():
        told("size --format json / ridgepoint fit --json", JSON, RIDGEPOINT, 1.5, runs)
    told("size / size --format json", TABLE, JSON, 2, runs)
    told("--help / import typer", [*KVCALC, "--help"], TYPER, 1.5, runs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(R1, indent=2))
        from_config = [*KVCALC, "size", "--model", str(path), "--tokens", "100000"]
        told("size --model config.json / size --preset", from_config, TABLE, 1.2, runs)


def told(name: str, command: list[str], base: list[str], goal: float, runs: int) -> None:
    """Prints the ratio of a command to the one that it is measured against."""
    cpu_seconds(command), cpu_seconds(base)
    ratios = [cpu_seconds(command) / cpu_seconds(base) for _ in range(runs)]
    print(f"  {name:42} {statistics.median(ratios):.2f}  (goal {goal}, {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
