"""The options of all commands: a row each. A command lists those that it takes, changed where it means them otherwise.

`application.py` makes help, completion and errors from these rows; `plain.py` reads a plain command line by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

TEXT, COUNT, FLAG, TEXTS = "text", "count", "flag", "texts"
"""What an option holds: a text, a whole number, whether it is there, or the texts of all the times it is given."""


class Option(NamedTuple):
    """How an option is written and described, and what its command gets.

    name: parameter of the command's `run`.
    flags: all ways to write it, the long one first; none for an argument.
    default: what `run` gets without it, but () for TEXTS and False for FLAG.
    complete: what the shell offers for what was typed so far.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    help: str
    kind: str = TEXT
    default: str | int | None = None
    required: bool = False
    complete: Callable[[str], list[str]] | None = None


def _complete_preset(incomplete: str) -> list[str]:
    from kvcalc.io.presets import preset_aliases, preset_names

    names = {*preset_names(), *preset_aliases()}
    return sorted(name for name in names if name.startswith(incomplete.lower()))


def _complete_dtype(incomplete: str) -> list[str]:
    from kvcalc.cache.dtypes import DTYPES

    return [dtype.name for dtype in DTYPES if dtype.name.startswith(incomplete)]


def _complete_format(incomplete: str) -> list[str]:
    from kvcalc.formats import FORMATS

    return [name for name in FORMATS.names() if name.startswith(incomplete)]


def _complete_gpu(incomplete: str) -> list[str]:
    from kvcalc.hardware import AUTO
    from kvcalc.hardware.naming import spellings

    return sorted(name for name in {AUTO, *spellings()} if name.startswith(incomplete.lower()))


# The model ----------------------------------------------------------------------------------------------------------

NAMED = Option(
    "named",
    (),
    "[MODEL]",
    "Preset, hub id, Ollama tag, or the path of a config.json, a model's folder or a GGUF file.",
    complete=_complete_preset,
)
PRESET = Option("preset", ("--preset", "-p"), "NAME", "The same as an option: r1.", complete=_complete_preset)
MODEL = Option("model", ("--model", "-m"), "NAME|PATH", "The same: Qwen/Qwen3-8B, path/to/config.json.")
MODELS = Option("models", (), "[MODEL]...", "Presets or paths.", TEXTS, complete=_complete_preset)
ASSUME = Option("assume", ("--assume",), "KIND", "Read an unknown model_type as gqa, mha or mla; the output says so.")
MTP = Option("mtp", ("--mtp",), None, "With the layers that predict further tokens.", FLAG)
ATTENTION = Option("attention", ("--attention",), "KIND", "What if it had: mha, mqa, gqa:8, mla:512+64, mla-naive.")
METHOD = Option(
    "method", ("--method",), "SPEC", "What a method leaves: streaming-llm, snapkv:window_size=64 ...", TEXTS
)
VARIANTS = Option(
    "variants",
    ("--variants",),
    "LIST",
    "What one model is compared as, separated by commas.",
    default="mha,gqa:16,gqa:8,mqa,mla",
)
METHODS = Option(
    "methods", ("--methods",), "LIST", "all, or methods separated by semicolons: one model under each of them."
)

# What is asked of it ------------------------------------------------------------------------------------------------

TOKENS = Option(
    "tokens",
    ("--tokens", "-t"),
    "N",
    "Cached tokens of a sequence: 100000, 128k (128,000), 128K (131,072); 1K,32K for several.",
    TEXTS,
)
LENGTH = Option("length", (), "[TOKENS]", "The same as --tokens: 32k.")
BATCH = Option("batch", ("--batch", "-b"), "N", "Sequences cached at the same time.", default="1")
DTYPE = Option(
    "dtype",
    ("--dtype", "-d"),
    "NAME",
    "Format of the cache: bf16, fp8, int8, int4 ...",
    default="bf16",
    complete=_complete_dtype,
)
ENGINE = Option("engine", ("--engine", "-e"), "NAME", "Engine to model: vllm, vllm@0.33.", default="ideal")
ENGINE_SET = Option(
    "engine_set", ("--engine-set",), "NAME=VALUE", "A setting of the engine, such as window=full.", TEXTS
)

# The GPUs -----------------------------------------------------------------------------------------------------------

TP = Option("tp", ("--tp",), "N", "Tensor-parallel ranks, which share heads.", COUNT, 1)
PP = Option("pp", ("--pp",), "N", "Pipeline stages, which share layers.", COUNT, 1)
DP = Option("dp", ("--dp",), "N", "Data-parallel replicas, which share sequences.", COUNT, 1)
DCP = Option("dcp", ("--dcp",), "N", "Tensor-parallel ranks that share tokens, where an engine does.", COUNT, 1)
GPU = Option(
    "gpu",
    ("--gpu",),
    "NAME",
    "GPU as `kvcalc gpus` or its driver names it: 4090, h100; auto: this machine's.",
    complete=_complete_gpu,
)
MEMORY = Option("memory", ("--memory",), "BYTES", "Of any other device, or of the GPU as you know it: 64GB, 60GiB.")
GPUS = Option("gpus", ("--gpus",), "N", "GPUs in all: tp x pp x dp.", COUNT)
WEIGHTS = Option(
    "weights",
    ("--weights",),
    "BYTES|PATH",
    "Of the whole model: 671GB, 625GiB, or safetensors (index, files, folder) or GGUF to read it from; "
    "else as its authors published them, where the preset knows.",
)
RESERVE = Option("reserve", ("--reserve",), "BYTES", "On each GPU for activations, graphs and the rest.", default="0")
UTILIZATION = Option(
    "utilization", ("--utilization",), "SHARE", "Share of the GPU's memory in use; default: the engine's."
)

# What is run --------------------------------------------------------------------------------------------------------

DEVICE = Option("device", ("--device",), "NAME", "cpu, cuda, or meta: shapes of any size.")
LAYERS = Option("layers", ("--layers",), "N", "Only the first N layers of the model.", COUNT)
DECODE_STEPS = Option("decode_steps", ("--decode-steps",), "N", "Tokens that come one by one.", COUNT, 2)
ATTENDED_TOKENS = Option("attended_tokens", ("--attended-tokens",), "N", "Longest prompt to attend; 256.", COUNT)
ENCODER_TOKENS = Option("encoder_tokens", ("--encoder-tokens",), "N", "What cross-attention looks at.", COUNT)
TIMEOUT = Option("timeout", ("--timeout",), "SECONDS", "By when all ranks are done; 1800.", COUNT)
AGAINST = Option("against", ("--against",), "NAME", "Another's classes: transformers.")

# What is shown ------------------------------------------------------------------------------------------------------

BY_LAYER = Option("by_layer", ("--by-layer",), None, "A row for each layer.", FLAG)
EXPLAIN = Option("explain", ("--explain",), None, "The formula with its numbers, and where each came from.", FLAG)
VERIFY = Option("verify", ("--verify",), None, "Build the attention in torch, run it, and measure the cache.", FLAG)
EXACT = Option("exact", ("--exact",), None, "Bytes in full instead of GiB.", FLAG)
MAX_GROWTH = Option("max_growth", ("--max-growth",), "PERCENT", "Largest growth of a deployment's bytes: 10%.")
FORMAT = Option("format", ("--format", "-f"), "NAME", "How to print it.", default="table", complete=_complete_format)

# Arguments of one command -------------------------------------------------------------------------------------------

BASE = Option("base", (), "BASE", "File, folder or revision, as it was; or both: main..HEAD.", required=True)
HEAD = Option("head", (), "[HEAD]", "As it is now; of a revision, the working tree if not given.")
PATHS = Option("paths", (), "[PATH]...", "Only files and folders of these names.", TEXTS)
BASELINE = Option("baseline", ("--baseline",), "FILE", "Compare with what this file keeps; new failures alone count.")
UPDATE_BASELINE = Option("update_baseline", ("--update-baseline",), None, "Write --baseline anew.", FLAG)
DEPLOYMENT_FILES = Option(
    "paths",
    (),
    "PATH...",
    "Manifests, compose files, values, scripts, units; folders; - for standard input; REVISION:PATH of git.",
    TEXTS,
    required=True,
)
SET = Option(
    "variables", ("--set",), "NAME=VALUE", "A variable that the files use and do not set, such as MODEL_ID=r1.", TEXTS
)
CHECKED_FILES = DEPLOYMENT_FILES._replace(
    help="Plans (`kvcalc schema plan`), manifests, compose files, values, scripts, units; folders; - for standard "
    "input; REVISION:PATH of git."
)
LOG = Option("log", (), "FILE", "Start-up log of vLLM, llama.cpp, SGLang, TensorRT-LLM.", required=True)
PRESET_NAME = Option("name", (), "NAME", "Preset or alias.", required=True, complete=_complete_preset)
PRESET_FILES = Option("paths", (), "PATH...", "Preset files or config.json files.", TEXTS, required=True)
CONFIG = Option("path", (), "PATH", "A config.json, or a directory that holds one.", required=True)
ENGINE_NAME = Option("name", (), "NAME", "Engine, as `kvcalc engines list` names it.", required=True)
METHOD_NAME = Option("name", (), "NAME", "Method, as `kvcalc methods list` names it.", required=True)
GPU_WORDS = Option(
    "words",
    (),
    "[WORD]...",
    "A device, or words that describe several: nvidia hopper.",
    TEXTS,
    complete=_complete_gpu,
)
SCHEMA_KIND = Option("kind", (), "plan|preset", "Which kind of file.", required=True)
