"""Writes `vectors/*.jsonl`: a sample of the measured rows of tests/data, each a question and its answer in plain terms.

    python tools/vectors.py FOLDER

Rows are selected only by position, never by kvcalc's answers. `vectors/schema.json` describes a row.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "tests" / "data"
FACTS = ("vllm_facts", "vllm_versions_facts", "sglang_facts", "lmdeploy_facts")
CAPACITY_BYTES = 40 * 2**30
"""Asked of where vLLM refused before it measured any."""
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """Rows of a file of tests/data."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def spread(rows: Iterable[Row], most: int) -> list[Row]:
    """At most this many of the rows, evenly from the first to the last."""
    listed = list(rows)
    if len(listed) <= most:
        return listed
    return [listed[i * (len(listed) - 1) // (most - 1)] for i in range(most)]


def spread_by(rows: Iterable[Row], key: Any, most: int) -> list[Row]:
    """The same of the rows of each key."""
    return [row for _, own in groupby(sorted(rows, key=key), key) for row in spread(own, most)]


def release(row: Row) -> list[int]:
    """Version of a row's engine, to sort by."""
    return [int(number) for number in row["question"]["engine"].partition("@")[2].split(".")]


def facts() -> dict[str, Row]:
    """What decides the cache of the models that rows only name."""
    found: dict[str, Row] = {}
    for file in FACTS:
        for entry in read(file):
            found[entry["name"]] = entry["config"] | found.get(entry["name"], {})
    return found


def finite(config: Row) -> Row:
    """A config without the values that JSON has no number for, which decide no cache."""
    kept = {
        name: value for name, value in config.items() if isinstance(value, dict) or "Infinity" not in json.dumps(value)
    }
    return {name: finite(value) if isinstance(value, dict) else value for name, value in kept.items()}


def vector(engine: str, version: str, question: Row, answer: Row, how: str, ask: str = "size") -> Row:
    """One row, without its id; what is None is left out."""
    asked = {name: value for name, value in question.items() if value not in (None, {})}
    if "config" in asked:
        asked["config"] = finite(asked["config"])
    return {"engine": engine, "version": version, "question": {"ask": ask, **asked}, "answer": answer, "how": how}


def transformers() -> Iterator[Row]:
    """Caches of small models of every class of 5.23, and of 17 releases."""
    how = "a cache that the class made on a CPU: elements x bytes of one, all layers"
    by_type = groupby(sorted(read("transformers"), key=lambda row: row["model_type"]), lambda row: row["model_type"])
    for _, rows in by_type:
        listed = list(rows)
        encoders = {c["encoder_len"] for row in listed for c in row["cases"] if c.get("encoder_len") is not None}
        cases = [{"config": row["config"], **case} for row in listed for case in row["cases"]]
        for case in spread([c for c in cases if c.get("encoder_len") is not None or not encoders], 3):
            settings = {
                name: case[name] for name in ("cache", "prompt_tokens", "decode_steps", "num_beams") if name in case
            }
            settings |= case.get("quant") or {}
            settings |= {"encoder_tokens": case["encoder_len"]} if case.get("encoder_len") is not None else {}
            question = {
                "config": case["config"],
                "tokens": case["cached_tokens"],
                "sequences": case["batch"],
                "kv_dtype": case["dtype"],
                "settings": {name: value for name, value in settings.items() if value is not None},
            }
            yield vector("transformers", "5.23.0", question, {"total_bytes": case["bytes"]}, how)
    for row in spread_by(read("transformers_versions"), release, 12):
        question = {"config": row["config"], **renamed(row["question"])}
        yield vector(*engine_of(row["question"]), question, row["want"], how)


def renamed(question: Row) -> Row:
    """A question to kvcalc as one to any estimator."""
    names = {"engine_settings": "settings"}
    return {names.get(name, name): value for name, value in question.items() if name != "engine"}


def engine_of(question: Row, version: str = "") -> tuple[str, str]:
    """Engine and version of a question."""
    engine, _, own = question["engine"].partition("@")
    return engine, own or version


def vllm() -> Iterator[Row]:
    """Start-ups that vLLM planned, or refused, of 0.33.0 and of 17 versions, and its CPU build, which ran."""
    how = "vLLM's own planner, run without a GPU"
    known = facts()
    for row in spread_by([row for row in read("vllm") if row["config"]], lambda row: row["config"], 5):
        settings = {name: value for name, value in row["settings"].items() if value is not None}
        settings |= settings.pop("extra", None) or {}
        parallel = {name: settings.pop(name) for name in ("tp", "pp", "dcp")}
        settings = {
            name.removesuffix("_arg"): value
            for name, value in settings.items()
            if name not in ("compute_capability", "gpu_total_memory")
        }
        question = {
            "config": known[row["config"]],
            "available_bytes": row.get("available_bytes", CAPACITY_BYTES),
            "parallel": parallel,
            "settings": settings,
        }
        result = row.get("result")
        names = {"num_blocks": "num_gpu_blocks", "tokens": "reported_tokens", "bytes_per_block": "bytes_per_block"}
        answer = {name: result[own] for name, own in names.items()} if result else {"refused": True}
        yield vector("vllm", row["vllm_version"], question, answer, how, "fit")
    for row in spread_by(read("vllm_versions"), release, 6):
        question = {"config": known[row["model"]], **renamed(row["question"])}
        answer = {name: value for name, value in row["want"].items() if name != "max_concurrency"}
        yield vector(*engine_of(row["question"]), question, answer, how, row["call"])
    for row in spread_by(read("vllm_cpu"), lambda row: (row["call"], row["name"]), 2):
        question = {"config": row["config"], **renamed(row["question"])}
        answer = {name: row["want"][name] for name in ("total_bytes", "num_blocks", "tokens") if name in row["want"]}
        yield vector(*engine_of(row["question"]), question, answer, "vLLM's CPU build, started and asked", row["call"])

    for row in read("vllm_drafts"):
        if not (drafts_of_stages(row) or row["name"].startswith("mtp ")):
            yield drafted(row)


def drafts_of_stages(row: Row) -> bool:
    """Whether ranks share it by other means than tensor parallelism, which were never run."""
    return bool(row["question"].get("parallel", {}).keys() - {"tp"})


def drafted(row: Row) -> Row:
    """Start-ups with the drafts of another checkpoint: 0.33.0 planned, and 0.32.0's CPU build, which ran."""
    asked = dict(row["question"])
    settings = {"gpu": "h100-80gb", **asked.pop("engine_settings")}
    settings["speculative"] = {**settings["speculative"], "model": "draft"}
    question = {"config": row["config"], "draft": row["drafter"], **renamed(asked), "settings": settings}
    names = ("num_blocks", "tokens", "bytes_per_block", "total_bytes", "refused")
    how = "vLLM's CPU build, started and asked" if "call" in row else "vLLM's own planner, run without a GPU"
    answer = {name: row["want"][name] for name in names if name in row["want"]}
    return vector(*engine_of(row["question"]), question, answer, how, row.get("call", "fit"))


def sglang() -> Iterator[Row]:
    """Start-ups that SGLang planned, drafts left out; arguments of the start-up that the question needs are in it."""
    known = facts()
    asked = ("mamba_radix_cache_strategy", "disable_overlap_schedule")
    for row in spread([row for row in read("sglang") if not row["mtp"] and row["stage"] == 0], 90):
        question = {"config": known[row["model"]] | row["overrides"], **renamed(row["question"])}
        more = {name: value for name, value in row["server_args"].items() if name in asked}
        question["settings"] = question["settings"] | more
        how = "SGLang's own planner, run without a GPU"
        yield vector("sglang", "0.5.23", question, {"tokens": row["want"]["tokens"]}, how, "fit")


def llama_cpp() -> Iterator[Row]:
    """Contexts of the library over models that are metadata alone, and what it refused."""
    for row in spread_by(read("llama_cpp"), lambda row: row["model"], 6):
        settings = {name: value for name, value in row["settings"].items() if name != "no_alloc"}
        tokens, sequences = settings.pop("n_ctx") or None, settings.pop("n_seq_max")
        metadata = {f"{row['arch']}.{name}": value for name, value in row["metadata"].items()}
        gguf = {"general.architecture": row["arch"], **metadata}
        answer = {"refused": True} if row.get("rejected") else {"total_bytes": row["engine_bytes"]}
        question = {"gguf": gguf, "tokens": tokens, "sequences": sequences, "settings": settings}
        if row.get("reject_kind", "engine rule") == "engine rule":
            yield vector("llama_cpp", "0.3.36", question, answer, "a context of llama-cpp-python 0.3.36, and its log")


def mlx_lm() -> Iterator[Row]:
    """Caches of small models."""
    for row in spread_by(read("mlx_lm"), lambda row: row["name"], 3):
        question = {"config": row["config"], **renamed(row["question"])}
        yield vector(
            "mlx_lm", "0.32.2", question, row["want"], "a cache that MLX-LM made on a CPU: bytes of its arrays"
        )


def ollama() -> Iterator[Row]:
    """Contexts of Ollama's own Go code."""
    known = facts()
    for row in read("ollama"):
        question = {"config": known[row["model"]], **renamed(row["question"])}
        how = "a context of Ollama's own Go code: bytes of its cells"
        yield vector(*engine_of(row["question"]), question, row["want"], how)


def lost(row: Row) -> bool:
    """Whether a row was measured with a setting that its question lacks; tests/engines/test_lmdeploy.py says which."""
    settings = row["question"]["engine_settings"]
    return row["name"] == "google__gemma-3-1b-it" and settings.get("quant_policy") == 8  # noqa: PLR2004


def lmdeploy() -> Iterator[Row]:
    """Sizes and plans of its PyTorch engine, but for those that lost a setting on the way."""
    known = facts()
    for row in spread([row for row in read("lmdeploy") if not lost(row)], 80):
        question = {"config": known[row["model"]], **renamed(row["question"])}
        how = "LMDeploy's own PyTorch engine, run without a GPU"
        yield vector("lmdeploy", "0.18.0", question, row["want"], how, row["call"])


def tensorrt_llm() -> Iterator[Row]:
    """Pools of manager V1, on a rank of the first pipeline stage."""
    known = {entry["name"]: entry["config"] for entry in read("tensorrt_llm_facts")}
    how = "a transcript of TensorRT-LLM's Python arithmetic, not the package"
    for row in spread([row for row in read("tensorrt_llm") if row["stage"] == 0], 120):
        question = {"config": known[row["model"]], **renamed(row["question"])}
        yield vector("tensorrt_llm", "1", question, {"pools": row["want"]["pools"]}, how, row["call"])


ENGINES = (transformers, vllm, sglang, llama_cpp, mlx_lm, ollama, lmdeploy, tensorrt_llm)


def written(name: str, rows: Iterable[Row]) -> str:
    """The file of an engine."""
    numbered = ({"id": f"{name}-{number:04}", **row} for number, row in enumerate(rows, start=1))
    return "".join(json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n" for row in numbered)


def main(folder: Path) -> None:
    """Writes a file for each engine."""
    folder.mkdir(parents=True, exist_ok=True)
    for engine in ENGINES:
        (folder / f"{engine.__name__}.jsonl").write_text(written(engine.__name__, engine()), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
