"""The options of all commands, one row each. A command lists the ones it takes, with changes where its meaning differs.

`application.py` makes help, completion and errors from these rows; `plain.py` parses plain command lines with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

TEXT, COUNT, FLAG, TEXTS = "text", "count", "flag", "texts"
"""The type of an option's value: text, whole number, flag, or the texts of all its uses."""


class Option(NamedTuple):
    """An option's spelling, help and value.

    name: parameter of the command's `run`.
    flags: all spellings, the long one first; none for an argument.
    help: its meaning; {known} stands for all names it takes.
    default: value for `run` if not given; () for TEXTS and False for FLAG.
    known: the names it takes, completed by the shell.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    help: str
    kind: str = TEXT
    default: str | int | None = None
    required: bool = False
    known: Callable[[], Sequence[str]] | None = None

    def offered(self, incomplete: str) -> list[str]:
        """Names that start with the typed text; hub ids only after part of their organisation."""
        begun = incomplete.lower()
        names = self.known() if self.known else ()
        return sorted(name for name in names if name.lower().startswith(begun) and (begun or "/" not in name))


# Names that options take, looked up when help or the shell needs them ------------------------------------------------


def _presets() -> Sequence[str]:
    from kvcalc.io.presets import preset_aliases, preset_names

    return [*preset_names(), *preset_aliases()]


def _models() -> Sequence[str]:
    from kvcalc.io.resolve.table import rows

    return [*_presets(), *(row.name for row in rows() if row.preset and "/" in row.name)]


def _dtypes() -> Sequence[str]:
    from kvcalc.cache.dtypes import DTYPES

    return [dtype.name for dtype in DTYPES]


def _engines() -> Sequence[str]:
    from kvcalc.engines import ENGINES

    return [name.replace("-", "_") for name in ENGINES.names()]


def _logged_engines() -> Sequence[str]:
    from kvcalc.io.engine_logs import LOG_FORMATS

    return [name.replace("-", "_") for name in LOG_FORMATS.names()]


def _gpus() -> Sequence[str]:
    from kvcalc.hardware import AUTO
    from kvcalc.hardware.naming import spellings

    return [AUTO, *spellings()]


def _methods() -> Sequence[str]:
    from kvcalc.methods import METHODS

    return METHODS.names()


def _architectures() -> Sequence[str]:
    from kvcalc.methods import METHODS
    from kvcalc.methods._traits import ARCHITECTURE

    return [name for name in METHODS.names() if METHODS.module(name).TRAITS.kind == ARCHITECTURE]


def _assumed() -> Sequence[str]:
    from kvcalc.io.hf_config import ASSUMED

    return tuple(ASSUMED)


def _attention_kinds() -> Sequence[str]:
    from kvcalc.io.gallery import attention_kinds

    return attention_kinds()


def _formats() -> Sequence[str]:
    from kvcalc.formats import FOR_ANYTHING

    return FOR_ANYTHING


def _formats_of_charts() -> Sequence[str]:
    from kvcalc.formats import FOR_ANYTHING, FOR_CHARTS

    return (*FOR_ANYTHING, *FOR_CHARTS)


def _formats_of_findings() -> Sequence[str]:
    from kvcalc.formats import FOR_ANYTHING, FOR_FINDINGS

    return (*FOR_ANYTHING, *FOR_FINDINGS)


def _formats_of_checks() -> Sequence[str]:
    from kvcalc.formats import FOR_CHARTS

    return (*_formats_of_findings(), *FOR_CHARTS)


def _measured_engines() -> Sequence[str]:
    from kvcalc.io.vectors import engine_names

    return engine_names()


def _schemas() -> Sequence[str]:
    from kvcalc.io.schemas import SCHEMAS

    return tuple(SCHEMAS)


# The model ----------------------------------------------------------------------------------------------------------

NAMED = Option(
    "named",
    (),
    "[MODEL]",
    "Preset (`kvcalc presets list`), hub id, Ollama tag, or path of a config.json, a model's folder or a GGUF file.",
    known=_models,
)
PRESET = Option("preset", ("--preset", "-p"), "NAME", "The model as an option: r1.", known=_models)
MODEL = Option("model", ("--model", "-m"), "NAME|PATH", "The same: Qwen/Qwen3-8B, path/to/config.json.", known=_models)
MODELS = Option("models", (), "[MODELS]", "Presets (`kvcalc presets list`), hub ids or paths.", TEXTS, known=_models)
ASSUME = Option(
    "assume", ("--assume",), "KIND", "Read an unknown model_type as {known}; the output says so.", known=_assumed
)
HUB = Option(
    "hub", ("--hub",), None, "Read the model from the Hugging Face Hub: its config and headers, no weights.", FLAG
)
MTP = Option("mtp", ("--mtp",), None, "Include the layers for multi-token prediction.", FLAG)
DRAFT_MODEL = Option(
    "draft_model",
    ("--draft-model",),
    "NAME",
    "Another model that drafts tokens, if the engine's settings do not name it.",
)
ATTENTION = Option(
    "attention",
    ("--attention",),
    "KIND",
    "Replace the attention: mqa, gqa:8, mla:512+64; `kvcalc methods list` has all architectures.",
    known=_architectures,
)
METHOD = Option(
    "method",
    ("--method",),
    "SPEC",
    "Apply a method, with parameters: snapkv:window_size=64; `kvcalc methods list` has all.",
    TEXTS,
    known=_methods,
)
VARIANTS = Option(
    "variants",
    ("--variants",),
    "LIST",
    "Variants to compare, separated by commas.",
    default="mha,gqa:16,gqa:8,mqa,mla",
)
METHODS = Option(
    "methods",
    ("--methods",),
    "LIST",
    "Methods to compare, separated by commas, or all (`kvcalc methods list`).",
)

# The question -------------------------------------------------------------------------------------------------------

TOKENS = Option(
    "tokens",
    ("--tokens", "-t"),
    "N",
    "Cached tokens per sequence: 100000, 128k (128,000), 128K (131,072); several: 1K,32K.",
    TEXTS,
)
LENGTH = Option("length", (), "[TOKENS]", "The same as --tokens: 32k.")
BATCH = Option("batch", ("--batch", "-b"), "N", "Sequences cached at the same time.", default="1")
DTYPE = Option(
    "dtype",
    ("--dtype", "-d"),
    "NAME",
    "Format of the cache: {known}.",
    default="bf16",
    known=_dtypes,
)
ENGINE = Option(
    "engine",
    ("--engine", "-e"),
    "NAME",
    "Engine to model: {known}; with a version: vllm@0.33 (`kvcalc engines list`).",
    default="ideal",
    known=_engines,
)
LOGGED_ENGINE = ENGINE._replace(
    help="Engine that wrote the log, if not detected: {known}.", default=None, known=_logged_engines
)
ENGINE_SET = Option(
    "engine_set",
    ("--engine-set",),
    "NAME=VALUE",
    "Engine setting: window=full; `kvcalc engines show NAME` has all.",
    TEXTS,
)

# Traffic ------------------------------------------------------------------------------------------------------------

SCHEDULER_SET = Option(
    "scheduler_set", ("--scheduler-set",), "NAME=VALUE", "Scheduler setting: max_num_seqs=128.", TEXTS
)
CONTEXT = Option(
    "context",
    ("--tokens", "-t"),
    "LENGTHS",
    "Prompts: 8K; p50=4K,p95=32K,max=128K; 1K:50,8K:30 (tokens:weight); or the path of a trace, which has outputs, "
    "too.",
    required=True,
)
WORKLOAD = Option(
    "workload",
    ("--workload",),
    "LENGTHS",
    "Lengths of requests, instead of --tokens: path of a trace, or p50=4K,p95=32K,max=128K. Answers how many replicas "
    "of which layout serve --users, and what one more GPU adds.",
)
ON = Option(
    "on",
    ("--on",),
    "ADDRESS",
    "Ray cluster to run on: ray://host:10001, host:6379, auto (kvcalc[ray]).",
)
OUTPUT = Option(
    "output", ("--output",), "LENGTHS", "Generated tokens, in the same forms; without it, lengths are whole contexts."
)
QUANTILE = Option("quantile", ("--quantile",), "PERCENT", "Share of the time without preemption.", default="99")
SHARED_PREFIX = Option(
    "shared_prefix",
    ("--shared-prefix",),
    "TOKENS",
    "Shared prefix of prompts: 2K; or by groups of users, 2K:60,8K:30,0:10.",
)
PREFIXES = Option("prefixes", ("--prefixes",), "N", "Number of different prefixes.", COUNT, 1)
ACTIVE = Option(
    "active",
    ("--active",),
    "PERCENT",
    "Share of the time a user's request runs; otherwise the session is idle and stays cached.",
    default="100",
)
BLOCKS = Option("blocks", ("--blocks",), "N", "Blocks in the pool; default: what the weights leave on --gpu.")
STEP_MS = Option(
    "step_ms",
    ("--step-ms",),
    "MS",
    "Duration of a step, for a trace with arrival times; floor: as fast as the bandwidth of --gpu allows.",
)
STEPS = Option("steps", ("--steps",), None, "Also list every step; slower, for short traces.", FLAG)
CURVE = Option("curve", ("--curve",), None, "Also show hit rates at other cache sizes.", FLAG)

# The GPUs -----------------------------------------------------------------------------------------------------------

TP = Option("tp", ("--tp",), "N", "Tensor-parallel ranks, which divide the heads.", COUNT, 1)
PP = Option("pp", ("--pp",), "N", "Pipeline stages, which divide the layers.", COUNT, 1)
DP = Option("dp", ("--dp",), "N", "Data-parallel replicas, which divide the sequences.", COUNT, 1)
DCP = Option("dcp", ("--dcp",), "N", "Decode-context-parallel ranks, which divide the tokens.", COUNT, 1)
EP = Option("ep", ("--ep",), "N", "Ranks, across replicas, that divide the routed experts; default: --tp.", COUNT, 1)
LINK = Option("link", ("--link",), "RATE", "Rate of each GPU's link: 400Gb/s (bits), 50GB/s (bytes).")
FROM = Option("prefill", ("--from",), "LAYOUT", "Layout of prefill: tp=4, or tp=8,pp=2.", default="tp=1")
TO = Option("decode", ("--to",), "LAYOUT", "Layout of decode.", default="tp=1")
IN_FLIGHT = Option("in_flight", ("--in-flight",), "N", "Requests that arrive at the same time.", COUNT, 1)
GPU = Option(
    "gpu",
    ("--gpu",),
    "NAME",
    "GPU as `kvcalc gpus` or its driver names it: 4090, h100; auto: this machine's.",
    known=_gpus,
)
QUEST = Option(
    "quest",
    ("--quest",),
    "SPEC",
    "Read only selected pages, as in Quest: token_budget=1024,page_size=16,full_layers=2, or only the budget.",
)
BANDWIDTH = Option(
    "bandwidth", ("--bandwidth",), "RATE", "Memory bandwidth of each GPU, if unknown or different: 3350GB/s."
)
MEMORY = Option(
    "memory", ("--memory",), "BYTES", "Memory of an unlisted device, or to override the GPU's: 64GB, 60GiB."
)
BUDGET = Option("budget", ("--budget",), "BYTES", "Memory for the cache on each GPU, instead of --gpu: 40GiB.")
GPUS = Option("gpus", ("--gpus",), "N", "Total GPUs: tp x pp x dp.", COUNT)
WEIGHTS = Option(
    "weights",
    ("--weights",),
    "BYTES|PATH",
    "Weights of the whole model: 671GB, 70B x 4.5bit, or a path to safetensors (index, files, folder) or GGUF; "
    "default: the model's own files, as published, or counted tensor by tensor (`kvcalc weights`).",
)
WEIGHTS_DTYPE = Option(
    "weights_dtype",
    ("--weights-dtype",),
    "NAME",
    "Size the weights in another format: fp8, int4, nvfp4, q4_k_m.",
)
RESERVE = Option(
    "reserve",
    ("--reserve",),
    "BYTES",
    "Memory kept on each GPU for activations, CUDA graphs and the rest.",
    default="0",
)
ESTIMATED_RESERVE = RESERVE._replace(
    help="Memory kept on each GPU for activations, CUDA graphs and the rest; default: an estimate for the engine.",
    default=None,
)
ADDED = (
    GPU._replace(help=f"{GPU.help} For deployments whose files do not name one."),
    MEMORY,
    BUDGET,
    WEIGHTS,
    ESTIMATED_RESERVE,
    TOKENS._replace(help="Context of each user: 32K; default: what the files say.", kind=TEXT),
    BATCH._replace(flags=("--batch", "-b", "--users"), default=None, help="Concurrent users of each deployment."),
)
"""What users add to deployments whose files do not say it (`kvcalc/io/checking.py`, Given)."""
WITH = Option(
    "others",
    ("--with",),
    "MODEL",
    "Another model on the same GPU, with the same engine: qwen3-0.6b,tokens=8K,users=4.",
    TEXTS,
)
LAUNCH = Option(
    "launch",
    ("--as",),
    "FORM",
    "Print the launch command of the best layout: vllm, sglang or llama-server (one line), compose or kubernetes.",
)
UTILIZATION = Option(
    "utilization", ("--utilization",), "SHARE", "Share of the GPU's memory to use; default: the engine's."
)

POOL = (
    BLOCKS,
    GPU,
    MEMORY,
    WEIGHTS,
    ESTIMATED_RESERVE,
    UTILIZATION,
    TP,
    DTYPE,
    ENGINE._replace(default="vllm", help="Engine whose scheduler to replay: vllm, vllm@0.32.0."),
    ENGINE_SET,
    SCHEDULER_SET,
)
"""Options that choose the scheduler and the size of its pool."""

# Verification -------------------------------------------------------------------------------------------------------

DEVICE = Option(
    "device",
    ("--device",),
    "NAME",
    "cpu, cuda, or meta (shapes only, any size).",
    known=lambda: ("cpu", "cuda", "meta"),
)
LAYERS = Option("layers", ("--layers",), "N", "Build only the first N layers.", COUNT)
DECODE_STEPS = Option("decode_steps", ("--decode-steps",), "N", "Tokens decoded one by one.", COUNT, 2)
ATTENDED_TOKENS = Option(
    "attended_tokens", ("--attended-tokens",), "N", "Longest prompt to attend; default: 256.", COUNT
)
ENCODER_TOKENS = Option("encoder_tokens", ("--encoder-tokens",), "N", "Tokens that cross-attention attends to.", COUNT)
TIMEOUT = Option("timeout", ("--timeout",), "SECONDS", "Time limit for all ranks; default: 1800.", COUNT)
AGAINST = Option(
    "against",
    ("--against",),
    "NAME",
    "Verify against another library's classes: {known}.",
    known=lambda: ("transformers",),
)

# Output -------------------------------------------------------------------------------------------------------------

BY_LAYER = Option("by_layer", ("--by-layer",), None, "One row per layer.", FLAG)
EXPLAIN = Option("explain", ("--explain",), None, "The formula with its numbers, and the source of each.", FLAG)
VERIFY = Option("verify", ("--verify",), None, "Build the attention in torch, run it and measure its cache.", FLAG)
EXACT = Option("exact", ("--exact",), None, "Exact bytes instead of GiB.", FLAG)
MAX_GROWTH = Option("max_growth", ("--max-growth",), "PERCENT", "Largest growth allowed in a deployment's bytes: 10%.")
FORMAT = Option("format", ("--format", "-f"), "NAME", "Output format: {known}.", default="table", known=_formats)
FORMAT_OF_FINDINGS = FORMAT._replace(known=_formats_of_findings)
FORMAT_OF_CHARTS = FORMAT._replace(
    help="Output format: {known}. chart is for terminals; svg and png need kvcalc[plot].", known=_formats_of_charts
)
FORMAT_OF_CHECKS = FORMAT_OF_CHARTS._replace(known=_formats_of_checks)
MAX_USERS = Option("max_users", ("--max-users",), None, "Plot max users on --gpu instead of bytes.", FLAG)
LINEAR = Option("linear", ("--linear",), None, "Linear axes instead of logarithmic ones.", FLAG)
OUT = Option("out", ("--out", "-o"), "FILE", "Write to this file; its suffix sets the format unless --format does.")

# Arguments of single commands ---------------------------------------------------------------------------------------

BASE = Option(
    "base", (), "BASE", "File, folder or git revision before the change; or a range of two revisions.", required=True
)
HEAD = Option("head", (), "[HEAD]", "The same after the change; default for a revision: the working tree.")
PATHS = Option("paths", (), "[PATHS]", "Only these files and folders.", TEXTS)
BASELINE = Option("baseline", ("--baseline",), "FILE", "Compare with this baseline file; only new failures count.")
UPDATE_BASELINE = Option("update_baseline", ("--update-baseline",), None, "Rewrite the --baseline file.", FLAG)
DEPLOYMENT_FILES = Option(
    "paths",
    (),
    "PATHS",
    "Manifests, compose files, Helm values, scripts, units; folders; - for standard input; git's REVISION:PATH.",
    TEXTS,
    required=True,
)
SET = Option(
    "variables", ("--set",), "NAME=VALUE", "Value for a variable that the files use but do not set: MODEL_ID=r1.", TEXTS
)
CHECKED_FILES = DEPLOYMENT_FILES._replace(
    help="Plans (`kvcalc schema plan`), manifests, compose files, Helm values, scripts, units; folders; - for standard "
    "input; git's REVISION:PATH; or a fleet.jsonl of any size with one deployment per line."
)
LOG = Option(
    "log",
    (),
    "WHAT",
    "Log or error of an engine ({known}), address of a server, or - for standard input.",
    required=True,
    known=_logged_engines,
)
PRESET_NAME = Option("name", (), "NAME", "Preset or alias (`kvcalc presets list`).", required=True, known=_presets)
PRESET_FILES = Option("paths", (), "PATHS", "Preset files or config.json files.", TEXTS, required=True)
TRACES = Option(
    "traces",
    (),
    "TRACES",
    "CSV or JSON lines of requests, folders of them, or patterns: 'traces/*.csv'. The last one is the model.",
    TEXTS,
)
CONFIG = Option("path", (), "PATH", "A config.json, or a directory with one.", required=True)
ENGINE_NAME = Option("name", (), "NAME", "One of {known}; with a version: vllm@0.33.", required=True, known=_engines)
METHOD_NAME = Option("name", (), "NAME", "Name of a method (`kvcalc methods list`).", required=True, known=_methods)
GPU_WORDS = Option(
    "words",
    (),
    "[WORDS]",
    "Name of a device, or words to search for: nvidia hopper.",
    TEXTS,
    known=_gpus,
)
PRESET_WORDS = Option(
    "words", (), "[WORDS]", "Words to search for in name, alias, model_type or source: qwen 27b.", TEXTS, known=_presets
)
KIND = Option(
    "kind", ("--kind",), "NAME", "Only models with layers of this attention: {known}.", known=_attention_kinds
)
ESTIMATOR = Option("command", (), "COMMAND", "The estimator's command line.", required=True)
MEASURED_ENGINES = Option(
    "engines", ("--engine", "-e"), "NAME", "Only vectors of this engine: {known}.", TEXTS, known=_measured_engines
)
ANSWER_TIMEOUT = Option("timeout", ("--timeout",), "SECONDS", "Time limit for each answer.", COUNT, 60)
SCHEMA_KIND = Option("kind", (), "KIND", "Kind of file or of answer: {known}.", required=True, known=_schemas)
