"""A layer of every kind that a preset has, at full width: what was predicted, and what CUDA's allocator took.

Layers whose facts are alike in several presets are run once, in bf16 and in fp8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

from _step import Step

from kvcalc.errors import KvcalcError
from kvcalc.io.presets import load_preset, preset_names
from kvcalc.model import Model
from kvcalc.verify.measure import verify

TOKENS, SEQUENCES, ENCODER_TOKENS = 8192, 2, 700
SMALL_TOKENS = 40
SECONDS, REHEARSED_SECONDS = 150, 20
"""After which no further layer is begun."""


def layers() -> Iterator[Model]:
    """A model of one layer for each kind of layer, named after the first preset that has it."""
    seen = set()
    for name in preset_names():
        for group in load_preset(name).groups:
            if group.parts not in seen:
                seen.add(group.parts)
                yield Model(f"{name}, {group.name}", (replace(group, layers=(0,)),))


def main() -> None:
    step = Step.asked(__file__, __doc__)
    tokens, most = (SMALL_TOKENS, REHEARSED_SECONDS) if step.rehearses else (TOKENS, SECONDS)
    start, rows = monotonic(), []
    for model in layers():
        for dtype in ("bf16", "fp8"):
            if monotonic() - start > most:
                break
            asked = {"tokens": tokens, "sequences": SEQUENCES, "kv_dtype": dtype, "encoder_tokens": ENCODER_TOKENS}
            try:
                result = verify(model, device=step.device, attended_tokens=8, **asked)
            except (KvcalcError, RuntimeError) as error:
                rows.append({"layer": model.name, "dtype": dtype, "error": str(error)[:300], "equal": False})
                continue
            memory = result.memory._asdict() if result.memory else {}
            rows.append({
                "layer": model.name, "dtype": dtype, "equal": result.equal,
                "predicted_bytes": result.predicted_bytes, "storage_bytes": result.storage_bytes,
                "requested_bytes": memory.get("requested_bytes"), "allocated_bytes": memory.get("measured_bytes"),
                "predicted_allocated_bytes": memory.get("predicted_bytes"), "tokens": tokens, "sequences": SEQUENCES,
            })  # fmt: skip
        step.write({"layers": len(rows), "equal": sum(row["equal"] for row in rows), "rows": rows})
    raise SystemExit(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    main()
