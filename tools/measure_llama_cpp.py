"""Measures llama.cpp into rows: for each context, what the library logs of its caches, or its refusal.

    python3 -m venv llama && llama/bin/pip install llama-cpp-python==0.3.36
    llama/bin/python tools/measure_llama_cpp.py tests/data/llama_cpp.jsonl.gz measured.jsonl.gz

Reads rows of the form {"model", "arch", "metadata", "settings"} and writes them again with the library's `log`, the
sizes in it (`sizes_mib`, two decimals) and `refused`; for a new release, run the same command with another version.
Needs: llama-cpp-python, which pip compiles (minutes; cmake and a C++ compiler), of a release that loads models from
only metadata (llama_model_init_from_user). No weights: the GGUF files are written here. --check compares with the rows'
own bytes and writes nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from gguf_files import gguf  # noqa: E402  # a helper of the tests, found by the line above

Row = dict[str, Any]
CONTEXTS = TESTS / "peers" / "llama_cpp_contexts.py"
SIZE = re.compile(
    r"^(?:llama_kv_cache: |llama_memory_recurrent: |llama_dsv4_comp_state: .*, layers = \d+, )size = +([\d.]+) MiB"
)
OWN_SETTINGS = ("no_alloc",)
"""Settings for measuring, not for a context."""
HALF_OF_LAST_DECIMAL = 0.0051
"""Rounding of a size, in MiB."""
MIB = 2**20


def measured(rows: Sequence[Row], script: Path = CONTEXTS) -> Iterator[Row]:
    """Each row with what the library logs; rows of one model one after the other share a file."""
    for _, same in groupby(rows, key=lambda row: json.dumps([row["arch"], row["metadata"]])):
        several = list(same)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            path.write_bytes(gguf(metadata(several[0])))
            answers = logged(path, [context(row) for row in several], script)
        for row, answer in zip(several, answers, strict=True):
            lines = answer["log"] if answer else []
            sizes = [float(found[1]) for line in lines if (found := SIZE.match(line))]
            yield {**row, "log": lines, "sizes_mib": sizes, "refused": answer["refused"] if answer else "crashed"}


def metadata(row: Row) -> dict[str, Any]:
    """Keys of a GGUF file that loads: the row's, and those that every architecture needs."""
    arch = row["arch"]
    epsilons = {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": 1e-5}
    common = {"vocab_size": 256, "feed_forward_length": 512, "logit_scale": 1.0, **epsilons}
    keys = {f"{arch}.{key}": value for key, value in (common | row["metadata"]).items()}
    return {"general.architecture": arch, **keys, "tokenizer.ggml.model": "no_vocab"}


def context(row: Row) -> dict[str, Any]:
    """Parameters of the row's context."""
    return {name: value for name, value in row["settings"].items() if name not in OWN_SETTINGS}


def logged(path: Path, contexts: Sequence[dict[str, Any]], script: Path) -> list[dict[str, Any] | None]:
    """The library's log of each context; None if it ended with an assertion."""
    answers: list[dict[str, Any] | None] = []
    while len(answers) < len(contexts):
        asked = json.dumps(contexts[len(answers) :])
        done = subprocess.run([sys.executable, script, path, asked], capture_output=True, text=True, check=False)
        answers += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode and "GGML_ASSERT" not in done.stderr:
            raise SystemExit(done.stderr)
        if done.returncode:
            answers.append(None)
    return answers


def agrees(row: Row, new: Row) -> bool:
    """Whether a row's bytes are those that are logged now, as exactly as they are logged; refusals alike."""
    if row.get("rejected") or new["refused"]:
        return bool(row.get("rejected")) == bool(new["refused"])
    slack = HALF_OF_LAST_DECIMAL * max(1, len(new["sizes_mib"]))
    return abs(row["engine_bytes"] / MIB - sum(new["sizes_mib"])) <= slack


def main() -> int:
    """Measures every row. Returns 1 if --check finds a size that differs from the row's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contexts", type=Path, help="rows, gzipped JSON lines")
    parser.add_argument("measured", type=Path, nargs="?", help="output file")
    parser.add_argument("--check", action="store_true", help="compare with the rows' own bytes and write nothing")
    options = parser.parse_args()
    if not (options.check or options.measured):
        parser.error("say where the measured rows go, or --check")
    with gzip.open(options.contexts, "rt") as lines:
        rows = list(map(json.loads, lines))
    found = list(measured(rows))
    if not options.check:
        with gzip.open(options.measured, "wt") as out:
            out.writelines(f"{json.dumps(row)}\n" for row in found)
        return 0
    wrong = [(row, new) for row, new in zip(rows, found, strict=True) if not agrees(row, new)]
    for row, new in wrong:
        print(f"{row['model']} {row['settings']}: {row.get('engine_bytes')}, now {new['refused'] or new['sizes_mib']}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} as before")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
