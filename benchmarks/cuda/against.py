"""Caches of transformers' own classes on the device, against `--engine transformers`: five types, by the command.

Each config is the class's own default, at full size where it fits.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import transformers
from _step import Step

TYPES = ("qwen3", "gemma3_text", "deepseek_v3", "qwen3_next", "whisper")
FIELDS = {
    "qwen3_next": {"num_hidden_layers": 8},  # fewer than the default: its recurrence is written in Python
    "whisper": {"architectures": ["WhisperForConditionalGeneration"]},  # the class that has an encoder
}
"""What differs from the class's defaults."""
TOKENS = 400
"""Within the 448 positions that Whisper has."""


def main() -> None:
    step = Step.asked(__file__, __doc__)
    tokens, rows = 40 if step.rehearses else TOKENS, []
    for model_type in TYPES[:1] if step.rehearses else TYPES:
        small = {"num_hidden_layers": 2, "vocab_size": 1000, "hidden_size": 64} if step.rehearses else {}
        config = transformers.CONFIG_MAPPING[model_type](**FIELDS.get(model_type, {}), **small)
        path = step.out / "config.json"
        path.write_text(json.dumps(config.to_dict()))
        command = [sys.executable, "-m", "kvcalc", "verify", "--against", "transformers", "--model", str(path)]
        command += ["--tokens", str(tokens), "--batch", "2", "--device", step.device, "--format", "json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            rows.append({"model_type": model_type, "equal": False, "error": "over 120 s"})
            continue
        row: dict[str, Any] = {"model_type": model_type, "equal": False, "exit": done.returncode}
        if done.stdout:
            result = json.loads(done.stdout)
            kept = ("equal", "predicted_bytes", "storage_bytes", "against", "notes", "tokens", "sequences")
            row |= {name: result[name] for name in kept}
            row["tensors"] = [t for t in result["tensors"] if not t["equal"]]
        row["error"] = done.stderr[-600:]
        rows.append(row)
        step.write(rows)
    step.write(rows)
    raise SystemExit(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    main()
