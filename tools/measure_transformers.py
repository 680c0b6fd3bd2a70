"""Measures what a version of transformers caches, into rows like those of tests/data/transformers_versions.jsonl.gz.

    python tools/measure_transformers.py 5.25.0 rows.jsonl.gz [NAME...]

It needs what `pip install -e '.[dev]'` installs. The version itself, with its dependencies except torch, is installed
by pip into build/transformers-VERSION and runs in a separate process; any version from 4.57 on works. Measured are the
models of tools/small_models.jsonl and, in each way that tests/peers can make them small, the types that are new to
kvcalc (from 5.18 on, where configs say their fields); or the models of that file that are named. Each row is a question
to `kvcalc.size()` and the bytes that were held. At the end it lists the rows that kvcalc answers differently, and the
types it cannot read. A minute or two on two cores.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import kvcalc
from kvcalc.engines.base.versions import number_of
from kvcalc.io.hf_config import known_model_types

ROOT = Path(__file__).parent.parent
MODELS = Path(__file__).with_name("small_models.jsonl")
CHILD = Path(__file__).with_name("transformers_child.py")
FIRST_SHRUNKEN = (5, 18)
"""From which version on config classes say all that tests/peers/shrinking.py reads."""
Row = dict[str, Any]


def installed(version: str) -> Path:
    """Folder with that version of transformers, and what it wants; torch stays that of this environment."""
    folder = ROOT / "build" / f"transformers-{version}"
    if not (folder / "transformers").is_dir():
        wanted = [f"transformers=={version}", "--target", str(folder)]
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-compile", *wanted], check=True)
    return folder


def measured(version: str, models: list[Row], *, new: bool) -> Iterator[Row]:
    """What the models held, case by case, and `failed` for those that the version does not have or cannot run."""
    paths = os.pathsep.join(map(str, (installed(version), ROOT / "tests" / "peers", ROOT)))
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder, "asked.json"), Path(folder, "told.jsonl")
        asked.write_text(json.dumps({"models": models, "known": known_model_types(), "new": new}))
        command = [sys.executable, str(CHILD), str(asked), str(told)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
        with told.open() as lines:
            yield from map(json.loads, lines)


def rows_of(version: str, held: Iterable[Row]) -> Iterator[Row]:
    """Each case as a question, and what must come out."""
    for model in held:
        for case in model.get("cases", ()):
            settings = {name: case[name] for name in ("cache", "prompt_tokens", "decode_steps")}
            question = {
                "tokens": case["prompt_tokens"] + case["decode_steps"],
                "sequences": case["sequences"],
                "kv_dtype": case["kv_dtype"],
                "engine": f"transformers@{version}",
                "engine_settings": settings,
            }
            want = {"total_bytes": case["total_bytes"]}
            yield {"name": model["name"], "config": model["config"], "call": "size", "question": question, "want": want}


def answer(row: Row) -> int | str:
    """What kvcalc says, or why it does not; a version beyond its range is asked for as the last that it knows."""
    from kvcalc.engines.transformers.versions import TransformersRelease

    question = row["question"]
    version = TransformersRelease.nearest(question["engine"].partition("@")[2])
    try:
        asked = {**question, "engine": f"transformers@{version}"}
        return kvcalc.size(kvcalc.load(row["config"]), **asked).total_bytes
    except kvcalc.KvcalcError as error:
        return str(error).splitlines()[0]


def compared(rows: Iterable[Row]) -> None:
    """Prints how many rows are equal, and the first that is not of each model."""
    equal: Counter[bool] = Counter()
    told: set[str] = set()
    for row in rows:
        found, want = answer(row), row["want"]["total_bytes"]
        equal[found == want] += 1
        if found != want and row["name"] not in told:
            told.add(row["name"])
            print(f"{row['name']}: held {want}, kvcalc says {found}; {json.dumps(row['question'])}")
    print(f"{equal[True]} of {equal.total()} rows equal")


def main(version: str, out: str, *names: str) -> None:
    """Measures, writes and compares."""
    models = [json.loads(line) for line in MODELS.read_text().splitlines()]
    chosen = [model for model in models if not names or model["name"] in names]
    held = list(measured(version, chosen, new=not names and number_of(version) >= FIRST_SHRUNKEN))
    for model in held:
        if "failed" in model:
            print(f"{model['name']}: not run, {model['failed']}")
    rows = list(rows_of(version, held))
    with gzip.open(out, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    compared(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
