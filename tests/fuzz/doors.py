"""The doors that words of others come in by, each with sound inputs and with what is done with a spoiled one.

An entrance ends as it may where it returns or raises a KvcalcError; what the command line prints it reads strictly.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml
from gguf_files import TINY, gguf, text
from mutations import SCALARS, WORDS, spoiled_bytes, spoiled_text, spoiled_tree, spoiled_words
from strict_readers import assert_inert, assert_message, read_strictly, run

import kvcalc
from kvcalc.answers.compare import compare_variants
from kvcalc.engines import ENGINES, Engine
from kvcalc.fleet.explain import explain
from kvcalc.formats import FOR_ANYTHING, write
from kvcalc.hardware import presets_folder
from kvcalc.io.engine_args import read_arguments
from kvcalc.io.engine_logs import read_engine_log
from kvcalc.io.presets import preset_names
from kvcalc.io.servers import ask, saved
from kvcalc.io.weights import bytes_of_path
from kvcalc.methods import METHODS, parameters
from kvcalc.methods import apply_method as apply
from kvcalc.question import Question
from kvcalc.report.views import Explanation, Layers, Lengths

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
FINDINGS = ("table", "json", "csv", "markdown", "latex", "github", "gitlab", "junit", "sarif")
ENGINE_NAMES = ENGINES.names()
RUNS_TORCH = re.compile(r"verify|--verify|completion|^vectors|^mcp")
"""Commands that build modules, start others or change the shell have tests of their own."""


class Door(NamedTuple):
    """Where inputs come in. seeds: sound inputs; spoil: one of them changed; enter: it goes in, in an empty folder."""

    seeds: Callable[[], Sequence[Any]]
    spoil: Callable[[Random, Any, Sequence[Any]], Any]
    enter: Callable[[Any, Path, Random], None]


# Sound inputs ---------------------------------------------------------------------------------------------------------


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@cache
def config_texts() -> list[str]:
    """One config.json of each model_type that was measured."""
    configs = {row["model_type"]: row["config"] for row in rows("transformers")}
    return [json.dumps(config, indent=1) for config in configs.values()]


@cache
def preset_texts() -> list[str]:
    return [(presets_folder() / f"{name}.yaml").read_text("utf-8") for name in preset_names()]


@cache
def presets() -> list[dict[str, Any]]:
    return [yaml.safe_load(preset) for preset in preset_texts()]


@cache
def metadata() -> list[dict[str, Any]]:
    """Metadata of GGUF files, one of each architecture that was measured."""
    found = {
        row["arch"]: {
            "general.architecture": row["arch"],
            **{f"{row['arch']}.{k}": v for k, v in row["metadata"].items()},
        }
        for row in rows("llama_cpp")
    }
    return [TINY, *found.values()]


@cache
def ggufs() -> list[bytes]:
    tensors = text("t") + struct.pack("<IQQIQ", 2, 32, 4, 8, 0)
    versions = [gguf(TINY, version=1), gguf(TINY, version=2), gguf(TINY, order=">"), gguf(TINY, tensors=1) + tensors]
    return versions + [gguf({key: value for key, value in each.items() if value != []}) for each in metadata()]


@cache
def weights() -> list[bytes]:
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    header["b"] = {"dtype": "F32", "shape": [2, 2], "data_offsets": [8, 24]}
    raw = json.dumps(header).encode()
    index = {"metadata": {"total_size": 16060522496}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    return [struct.pack("<Q", len(raw)) + raw + bytes(24), json.dumps(index).encode()]


@cache
def logs() -> list[str]:
    return [path.read_text("utf-8") for path in sorted((ROOT / "tests" / "logs").glob("*.log"))]


@cache
def server_pages() -> list[dict[str, str]]:
    """Pages of a server of each engine, those of vLLM as one answered."""
    metrics = [row["metrics"] for row in rows("vllm_metrics")]
    few = "\n".join(line for line in metrics[1].splitlines() if re.match("vllm:(cache_config|kv_cache|num_req)", line))
    models = {"data": [{"id": "x", "root": "Qwen/Qwen3-14B", "max_model_len": 2048}]}
    sglang = {"model_path": "Qwen/Qwen3-8B", "tp_size": 2, "dp_size": 1, "page_size": 64, "version": "0.5.23"}
    memory = {"kvcache": 16.45, "token_capacity": 367404}
    props = {
        "default_generation_settings": {"n_ctx": 8192},
        "total_slots": 4,
        "build_info": "b7079-x",
        "model_path": "a",
    }
    running = {"models": [{"name": "llama3.1:8b", "size": 6654289920, "context_length": 8192}]}
    shown = {key: value for key, value in TINY.items() if not isinstance(value, bytes)}
    return [
        *(
            {"/metrics": text, "/v1/models": json.dumps(models), "/version": '{"version": "0.32.0+cpu"}'}
            for text in (few,)
        ),
        {
            "/get_server_info": json.dumps({**sglang, "internal_states": [{"memory_usage": memory}]}),
            "/metrics": "sglang:num_used_tokens 1000.0\nsglang:num_running_reqs 3.0\n",
        },
        {"/props": json.dumps(props), "/slots": json.dumps([{"is_processing": True}, {"is_processing": False}])},
        {
            "/api/ps": json.dumps(running),
            "/api/version": '{"version": "0.11.4"}',
            "/api/show": json.dumps({"model_info": shown}, default=str),
        },
    ]


def spoiled_pages(random: Random, pages: dict[str, str], others: Sequence[dict[str, str]]) -> dict[str, str]:
    """One page spoiled as text, or as the JSON that it is."""
    path = random.choice(list(pages))
    text, texts = pages[path], [text for each in others for text in each.values()]
    if text[:1] in ("{", "[") and random.random() < 1 / 2:
        trees = [json.loads(each) for each in texts if each[:1] in ("{", "[")]
        return {**pages, path: json.dumps(spoiled_tree(random, json.loads(text), trees), default=str)}
    return {**pages, path: spoiled_text(random, text, texts)}


def enter_server(pages: dict[str, str], folder: Path, random: Random) -> None:
    """A server that answers so, or one of its pages that somebody saved."""
    if random.random() < 1 / 2:
        reading = ask(lambda path, body=None: pages.get(path))
    else:
        reading = saved(random.choice(list(pages.values())))
    if reading is None:
        raise kvcalc.InvalidFileError("no page states a cache", help="")
    report = explain(kvcalc.load(random.choice(("tinyllama-1.1b", "gemma-3-4b", "qwen3-next-80b-a3b"))), reading)
    written(report, random.choice(FOR_ANYTHING))


@cache
def method_specs() -> list[str]:
    """Every method, with all its parameters written out, and in its shorter form."""
    named = [
        f"{name}:" + ",".join(f"{key}={as_written(value)}" for key, value in known.items())
        for name in METHODS.names()
        if (known := parameters(METHODS.module(name).apply))
    ]
    return [*METHODS.names(), *named, "gqa:8", "mla:512+64", "l2-norm:keep_ratio=0.5", "snapkv:window_size=64"]


def as_written(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return "8" if value is None or value is ... else str(value)


@cache
def engine_settings() -> list[tuple[str, dict[str, Any]]]:
    """Every engine with all its settings at their defaults."""
    return [
        (name, {key: plain(value) for key, value in Engine.of(name).settings_by_name().items()})
        for name in ENGINE_NAMES
    ]


def plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


@cache
def engine_lines() -> list[str]:
    """Command lines that engines are started with."""
    return [
        "vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 128K",
        "VLLM_USE_V1=1 python3 -m vllm.entrypoints.openai.api_server --model=r1 -tp 8 --gpu-memory-utilization=0.9",
        'vllm serve r1 --speculative-config \'{"method": "mtp", "num_speculative_tokens": 1}\' --max-num-seqs 64',
        "vllm serve gpt-oss-20b --block-size 64 --enable-prefix-caching --no-enable-log-requests -dcp 2 --dp 2",
        "python -m sglang.launch_server --model-path llama-3.1-8b --tp 2 --mem-fraction-static 0.8 --page-size 16",
        "sglang serve --model-path r1 --kv-cache-dtype fp8_e4m3 --context-length 65536 --max-running-requests 48",
        "llama-server -m gemma-3-27b -c 32768 -np 4 -ub 1024 -ctk q8_0 -ctv q8_0 --swa-full -fa on --kv-unified",
        "docker run --gpus all -e HF_TOKEN=$HF_TOKEN vllm/vllm-openai:v0.11.0 --model r1 -tp 8 --max-model-len 32K",
        "bash -c 'export M=r1; exec vllm serve $M --kv-transfer-config.kv_connector NixlConnector | tee log'",
        'M=${M:-r1}; ARGS=(-tp 8); ARGS+=(--block-size $((4 * 16))); vllm serve "$M" "${ARGS[@]}" 2>&1 # yes',
        "CUDA_VISIBLE_DEVICES=0,1 trtllm-serve llama-3.1-8b --tp_size 2 --kv_cache_free_gpu_memory_fraction 0.8",
        "lmdeploy serve api_server llama-3.1-8b --session-len 8192 --quant-policy 8 --cache-max-entry-count 0.5",
        "mlx_lm.server --model llama-3.1-8b --kv-bits 8 --max-kv-size 4096",
        "OLLAMA_KV_CACHE_TYPE=q8_0 OLLAMA_NUM_PARALLEL=2 ollama run llama3.1:8b",
        "env A=1 exec nohup llama-cli --model qwen3-14b --ctx-size 0 --cache-type-k f16 --no-mmap",
    ]


@cache
def plans() -> list[str]:
    """The shipped plans, those of the tests, and one with each engine's command line."""
    files = [*(ROOT / "examples" / "plans").glob("*.yaml"), *(ROOT / "tests" / "plans").glob("*.yaml")]
    lines = [
        {"name": f"line {n}", "args": line, "tokens": 4096, "gpu": "h100"} for n, line in enumerate(engine_lines())
    ]
    return [
        *(path.read_text("utf-8") for path in sorted(files)),
        *(yaml.safe_dump({"deployments": [line | {"weights": "16GB"}]}) for line in lines),
        *(
            json.dumps(
                {"deployments": [{"name": name, "model": "r1", "tokens": 4096, "budget": "40GB", "engine": name}]}
            )
            for name in ENGINE_NAMES
        ),
    ]


@cache
def command_lines() -> list[list[str]]:
    """Command lines of the snapshots, and of pages that show the questions."""
    snapshots = sorted((ROOT / "tests" / "snapshots").glob("*.txt"))
    shown = [path.read_text("utf-8").splitlines()[0] for path in snapshots]
    for page in (ROOT / "docs" / f"{name}.md" for name in ("size", "compare", "methods", "explain", "plans")):
        shown += re.findall(r"^\$ kvcalc .*", page.read_text("utf-8"), re.MULTILINE)
    lines = [shlex.split(line.partition("kvcalc")[2]) for line in shown]
    return [line for line in lines if line and not RUNS_TORCH.search(" ".join(line))]


@cache
def manifests() -> list[tuple[str, str]]:
    """Files of every form, by their names."""
    folder = DATA / "deployments"
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file() and path.name != "expected.json"]
    rows = yaml.safe_load((ROOT / "tests" / "io" / "deployments" / "forms.yaml").read_text("utf-8"))
    more = [(Path(name).name, words) for row in rows for name, words in row["files"].items()]
    return [(path.name, path.read_text("utf-8")) for path in files] + more


# Entrances ------------------------------------------------------------------------------------------------------------


def look_at(model: kvcalc.Model, random: Random) -> None:
    """A model meets an engine, a view and a format."""
    question = Question.of(model, tokens=random.choice((1, 5000, 100_000)), engine=random.choice(ENGINE_NAMES))
    report = kvcalc.size(question.model, tokens=question.tokens, engine=question.engine.name)
    assert type(report.total_bytes) is int
    assert report.total_bytes >= 0
    view = random.choice((report, Layers(report), Explanation(report, ()), Lengths((report, report)), None))
    if view is None:
        view = compare_variants(question, ["mha", "gqa:8", "mla"], [question.tokens], optional=True)
    written(view, random.choice(FOR_ANYTHING))


def written(document: Any, format: str) -> None:
    """A document is written, and read strictly."""
    import io

    stream = io.StringIO()
    write(document, format, stream)
    read_strictly(format, stream.getvalue())


def enter_text(name: str) -> Callable[[str, Path, Random], None]:
    """A file of this name is loaded as a model."""

    def enter(content: str, folder: Path, random: Random) -> None:
        file = folder / name
        file.write_bytes(content.encode("utf-8", "surrogatepass"))
        look_at(kvcalc.load(file), random)

    return enter


def enter_values(values: Any, folder: Path, random: Random) -> None:
    look_at(kvcalc.load(values), random)


def enter_gguf(raw: bytes, folder: Path, random: Random) -> None:
    file = folder / "model.gguf"
    file.write_bytes(raw)
    if random.random() < 1 / 2:
        assert bytes_of_path(file) >= 0
    look_at(kvcalc.load(file), random)


def enter_weights(raw: bytes, folder: Path, random: Random) -> None:
    file = folder / random.choice(("model.safetensors", "model.safetensors.index.json"))
    file.write_bytes(raw)
    assert bytes_of_path(file) >= 0


def enter_log(log: str, folder: Path, random: Random) -> None:
    file = folder / "engine.log"
    file.write_bytes(log.encode("utf-8", "surrogatepass"))
    if random.random() < 9 / 10:  # a search for what explains a difference takes a hundred times as long as reading
        read_engine_log(file)
        return
    format = random.choice(FOR_ANYTHING)
    enter_words(
        ["explain-log", str(file), "-p", random.choice(("qwen3-14b", "r1", "gemma-3-4b")), "-f", format], folder, random
    )


def spoiled_spec(random: Random, spec: str, others: Sequence[str]) -> str:
    """A method with other parameters, right or wrong."""
    name, _, written = spec.partition(":")
    if random.random() < 1 / 8:
        return spoiled_text(random, spec, others)
    if not written:
        return spoiled_spec(random, random.choice(others), others)
    pairs = [pair for pair in written.split(",") if random.random() < 1 / 2] or [written]
    at = random.randrange(len(pairs))
    values = random.choice((tuple(map(str, PLAUSIBLE)), tuple(map(str, COUNTS)), ("0+1", "0.25", "7"), WORDS))
    pairs[at] = pairs[at].partition("=")[0] + "=" + random.choice(values)
    return f"{name}:{','.join(pairs)}"


def enter_method(spec: str, folder: Path, random: Random) -> None:
    look_at(apply(kvcalc.load(random.choice(preset_names())), spec), random)


COUNTS = (0, 1, 2, 4, 8, 16, 64, 256, 8192)
NAMES = (
    "auto",
    "fp8",
    "bf16",
    "f16",
    "q8_0",
    "int4",
    "full",
    "honoured",
    "server",
    "library",
    "static",
    "quantized",
    "h100",
)
PLAUSIBLE = (*COUNTS, *NAMES, 0.5, 0.9, True, False)


def alike(value: object) -> Sequence[Any]:
    """Values of the kind that a setting has by default."""
    return (True, False) if isinstance(value, bool) else NAMES if isinstance(value, str) else (*COUNTS, None, 0.5)


def spoiled_settings(
    random: Random, seed: tuple[str, dict[str, Any]], others: Sequence[Any]
) -> tuple[str, dict[str, Any]]:
    """A few settings of an engine, with values of its own or of others, right or wrong."""
    name, known = seed
    chosen = {key: known[key] for key in random.sample(list(known), min(len(known), random.choice((1, 1, 2, 3))))}
    for key, value in chosen.items():
        chosen[key] = random.choice(random.choice((alike(value), alike(value), alike(value), (value,), SCALARS)))
    return name, spoiled_tree(random, chosen, [values for _, values in others]) if random.random() < 1 / 8 else chosen


def enter_settings(asked: tuple[str, dict[str, Any]], folder: Path, random: Random) -> None:
    engine, settings = asked
    model = kvcalc.load(random.choice(preset_names()))
    if random.random() < 1 / 3:
        written(
            kvcalc.fit(model, engine=engine, engine_settings=settings, available_bytes=40 * 2**30),
            random.choice(FOR_ANYTHING),
        )
    else:
        written(kvcalc.size(model, tokens=5000, engine=engine, engine_settings=settings), random.choice(FOR_ANYTHING))


def enter_line(line: str, folder: Path, random: Random) -> None:
    read = read_arguments(line)
    Engine.of(read.engine, read.settings)


def spoiled_plan(random: Random, plan: str, others: Sequence[str]) -> str:
    """A plan spoiled as text or as what it says."""
    if random.random() < 1 / 2:
        return spoiled_text(random, plan, others)
    tree = spoiled_tree(random, yaml.safe_load(plan), [yaml.safe_load(random.choice(others))])
    return json.dumps(tree, default=str) if random.random() < 1 / 2 else yaml.safe_dump(tree)


def enter_plan(plan: str, folder: Path, random: Random) -> None:
    file = folder / "plan.yaml"
    file.write_bytes(plan.encode("utf-8", "surrogatepass"))
    enter_words(["check", str(file), "-f", random.choice(FINDINGS)], folder, random)


def spoiled_manifest(random: Random, seed: tuple[str, str], others: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """A file spoiled as text, now and then under the name of another."""
    name = seed[0] if random.random() < 9 / 10 else random.choice(others)[0]
    return name, spoiled_text(random, seed[1], [words for _, words in others])


def enter_manifest(manifest: tuple[str, str], folder: Path, random: Random) -> None:
    name, words = manifest
    file = folder / name
    file.write_bytes(words.encode("utf-8", "surrogatepass"))
    command = random.choice(("deployments", "deployments", "check"))
    formats = FINDINGS if command == "check" else FOR_ANYTHING
    more = random.choice(([], ["--gpu", "h100", "--weights", "16GB"])) if command == "check" else []
    enter_words([command, str(file), *more, "-f", random.choice(formats)], folder, random)
    file.unlink()


def enter_words(words: list[str], folder: Path, random: Random) -> None:
    """A command line ends with an exit code, and prints a document of its format or one message."""
    if RUNS_TORCH.search(" ".join(words)):
        return
    done = run(*words)
    assert done.code in (0, 1, 2)
    if done.code == 2 and not done.out:
        if not done.err.startswith("Usage: kvcalc "):  # of a group without its command
            assert_message(done)
        raise kvcalc.KvcalcError(done.err, help="")
    assert_inert(done.out)
    format = words[words.index("-f") + 1] if "-f" in words[:-1] else ""
    if format in FINDINGS:
        read_strictly(format, done.out)


DOORS = {
    "config text": Door(config_texts, spoiled_text, enter_text("config.json")),
    "preset": Door(presets, spoiled_tree, enter_values),
    "preset text": Door(preset_texts, spoiled_text, enter_text("preset.yaml")),
    "gguf metadata": Door(metadata, spoiled_tree, enter_values),
    "gguf bytes": Door(ggufs, lambda random, raw, _: spoiled_bytes(random, raw), enter_gguf),
    "safetensors": Door(weights, lambda random, raw, _: spoiled_bytes(random, raw), enter_weights),
    "logs": Door(logs, spoiled_text, enter_log),
    "servers": Door(server_pages, spoiled_pages, enter_server),
    "methods": Door(method_specs, spoiled_spec, enter_method),
    "settings": Door(engine_settings, spoiled_settings, enter_settings),
    "engine command lines": Door(engine_lines, spoiled_text, enter_line),
    "plans": Door(plans, spoiled_plan, enter_plan),
    "manifests": Door(manifests, spoiled_manifest, enter_manifest),
    "command lines": Door(command_lines, spoiled_words, enter_words),
}
"""All but the config, whose fields `test_models.py` spoils one by one and knows what must not go unsaid."""
