"""The options of all commands: a row each. A command lists those that it takes, changed where it means them otherwise.

`application.py` makes help, completion and errors from these rows; `plain.py` reads a plain command line by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

TEXT, COUNT, FLAG, TEXTS = "text", "count", "flag", "texts"
"""What an option holds: a text, a whole number, whether it is there, or the texts of all the times it is given."""


class Option(NamedTuple):
    """How an option is written and described, and what its command gets.

    name: parameter of the command's `run`.
    flags: all ways to write it, the long one first; none for an argument.
    help: what it is; {known} in it stands for all names that it takes.
    default: what `run` gets without it, but () for TEXTS and False for FLAG.
    known: the names that it takes, which the shell offers by their beginning.
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
        """Names that begin as what was typed; those of the hub only once their organisation is begun."""
        begun = incomplete.lower()
        names = self.known() if self.known else ()
        return sorted(name for name in names if name.lower().startswith(begun) and (begun or "/" not in name))


# Names that options take; each is looked up when help or the shell asks for it --------------------------------------


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
MTP = Option("mtp", ("--mtp",), None, "With the layers that predict further tokens.", FLAG)
ATTENTION = Option(
    "attention",
    ("--attention",),
    "KIND",
    "What if it had other attention: mqa, gqa:8, mla:512+64; `kvcalc methods list` has all architectures.",
    known=_architectures,
)
METHOD = Option(
    "method",
    ("--method",),
    "SPEC",
    "What a method leaves, with its parameters: snapkv:window_size=64; `kvcalc methods list` has all.",
    TEXTS,
    known=_methods,
)
VARIANTS = Option(
    "variants",
    ("--variants",),
    "LIST",
    "What one model is compared as, separated by commas.",
    default="mha,gqa:16,gqa:8,mqa,mla",
)
METHODS = Option(
    "methods",
    ("--methods",),
    "LIST",
    "all, or methods with commas between (`kvcalc methods list`): one model under each of them.",
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
    "Format of the cache: {known}.",
    default="bf16",
    known=_dtypes,
)
ENGINE = Option(
    "engine",
    ("--engine", "-e"),
    "NAME",
    "Engine to model: {known}; or a version of it: vllm@0.33 (`kvcalc engines list`).",
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
    "A setting of the engine: window=full; `kvcalc engines show NAME` has all.",
    TEXTS,
)

# Traffic ------------------------------------------------------------------------------------------------------------

SCHEDULER_SET = Option(
    "scheduler_set", ("--scheduler-set",), "NAME=VALUE", "A setting of its scheduler, such as max_num_seqs=128.", TEXTS
)
CONTEXT = Option(
    "context",
    ("--tokens", "-t"),
    "LENGTHS",
    "Prompts: 8K; p50=4K,p95=32K,max=128K; 1K:50,8K:30 (tokens:weight); or a trace's path, with its outputs.",
    required=True,
)
WORKLOAD = Option(
    "workload",
    ("--workload",),
    "LENGTHS",
    "Requests that differ in length, in place of --tokens: a trace's path, or p50=4K,p95=32K,max=128K. How many "
    "replicas of which layout serve the --users, and what one more GPU brings.",
)
ON = Option(
    "on",
    ("--on",),
    "ADDRESS",
    "Ray cluster whose workers count the layouts: ray://host:10001, host:6379, auto (kvcalc[ray]).",
)
OUTPUT = Option("output", ("--output",), "LENGTHS", "What is generated, in the same forms; else users hold contexts.")
QUANTILE = Option("quantile", ("--quantile",), "PERCENT", "Share of the time without preemption.", default="99")
SHARED_PREFIX = Option(
    "shared_prefix",
    ("--shared-prefix",),
    "TOKENS",
    "Tokens that prompts begin with: 2K; or by groups of users, 2K:60,8K:30,0:10.",
)
PREFIXES = Option("prefixes", ("--prefixes",), "N", "How many different prefixes there are.", COUNT, 1)
ACTIVE = Option(
    "active",
    ("--active",),
    "PERCENT",
    "Share of the time that a user's request runs; in the rest its session is idle, and stays cached.",
    default="100",
)
BLOCKS = Option("blocks", ("--blocks",), "N", "Blocks of the pool; else what --gpu and the weights leave.")
STEP_MS = Option("step_ms", ("--step-ms",), "MS", "What a step takes, for a trace that says times.")
STEPS = Option("steps", ("--steps",), None, "Each step, too; slower, for short traces.", FLAG)
CURVE = Option("curve", ("--curve",), None, "Hit rates of other cache sizes, too.", FLAG)

# The GPUs -----------------------------------------------------------------------------------------------------------

TP = Option("tp", ("--tp",), "N", "Tensor-parallel ranks, which share heads.", COUNT, 1)
PP = Option("pp", ("--pp",), "N", "Pipeline stages, which share layers.", COUNT, 1)
DP = Option("dp", ("--dp",), "N", "Data-parallel replicas, which share sequences.", COUNT, 1)
DCP = Option("dcp", ("--dcp",), "N", "Tensor-parallel ranks that share tokens, where an engine does.", COUNT, 1)
EP = Option("ep", ("--ep",), "N", "Ranks that share routed experts, of all replicas; default: as --tp.", COUNT, 1)
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
    "Pages that a query reads, as in Quest: token_budget=1024,page_size=16,full_layers=2; the budget alone will do.",
)
BANDWIDTH = Option(
    "bandwidth", ("--bandwidth",), "RATE", "Of each GPU's memory, where it is not known or is another: 3350GB/s."
)
MEMORY = Option("memory", ("--memory",), "BYTES", "Of any other device, or of the GPU as you know it: 64GB, 60GiB.")
GPUS = Option("gpus", ("--gpus",), "N", "GPUs in all: tp x pp x dp.", COUNT)
WEIGHTS = Option(
    "weights",
    ("--weights",),
    "BYTES|PATH",
    "Of the whole model: 671GB, 70B x 4.5bit, or safetensors (index, files, folder) or GGUF to read it from; "
    "default: the model's own files, as published, or counted tensor by tensor (`kvcalc weights`).",
)
WEIGHTS_DTYPE = Option(
    "weights_dtype",
    ("--weights-dtype",),
    "NAME",
    "Count the weights in another format: fp8, int4, nvfp4, q4_k_m.",
)
RESERVE = Option("reserve", ("--reserve",), "BYTES", "On each GPU for activations, graphs and the rest.", default="0")
ESTIMATED_RESERVE = RESERVE._replace(
    help="On each GPU for activations, graphs and the rest; default: an estimate for the engine.", default=None
)
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
    "Print how the best layout is started: vllm, sglang or llama-server (one line), compose or kubernetes.",
)
UTILIZATION = Option(
    "utilization", ("--utilization",), "SHARE", "Share of the GPU's memory in use; default: the engine's."
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
    ENGINE._replace(default="vllm", help="Engine whose scheduler serves it: vllm, vllm@0.32.0."),
    ENGINE_SET,
    SCHEDULER_SET,
)
"""What says which scheduler serves from how large a pool."""

# What is run --------------------------------------------------------------------------------------------------------

DEVICE = Option(
    "device", ("--device",), "NAME", "cpu, cuda, or meta: shapes of any size.", known=lambda: ("cpu", "cuda", "meta")
)
LAYERS = Option("layers", ("--layers",), "N", "Only the first N layers of the model.", COUNT)
DECODE_STEPS = Option("decode_steps", ("--decode-steps",), "N", "Tokens that come one by one.", COUNT, 2)
ATTENDED_TOKENS = Option("attended_tokens", ("--attended-tokens",), "N", "Longest prompt to attend; 256.", COUNT)
ENCODER_TOKENS = Option("encoder_tokens", ("--encoder-tokens",), "N", "What cross-attention looks at.", COUNT)
TIMEOUT = Option("timeout", ("--timeout",), "SECONDS", "By when all ranks are done; 1800.", COUNT)
AGAINST = Option(
    "against", ("--against",), "NAME", "Another library's classes: {known}.", known=lambda: ("transformers",)
)

# What is shown ------------------------------------------------------------------------------------------------------

BY_LAYER = Option("by_layer", ("--by-layer",), None, "A row for each layer.", FLAG)
EXPLAIN = Option("explain", ("--explain",), None, "The formula with its numbers, and where each came from.", FLAG)
VERIFY = Option("verify", ("--verify",), None, "Build the attention in torch, run it, and measure the cache.", FLAG)
EXACT = Option("exact", ("--exact",), None, "Bytes in full instead of GiB.", FLAG)
MAX_GROWTH = Option("max_growth", ("--max-growth",), "PERCENT", "Largest growth of a deployment's bytes: 10%.")
FORMAT = Option("format", ("--format", "-f"), "NAME", "Output format: {known}.", default="table", known=_formats)
FORMAT_OF_FINDINGS = FORMAT._replace(known=_formats_of_findings)
FORMAT_OF_CHARTS = FORMAT._replace(
    help="Output format: {known}. chart: in the terminal; svg and png need kvcalc[plot].", known=_formats_of_charts
)
MAX_USERS = Option("max_users", ("--max-users",), None, "Max users that fit on --gpu, instead of bytes.", FLAG)
LINEAR = Option("linear", ("--linear",), None, "Axes in equal steps instead of doublings.", FLAG)
OUT = Option("out", ("--out", "-o"), "FILE", "Write to this file; its ending says the format, unless --format does.")

# Arguments of one command -------------------------------------------------------------------------------------------

BASE = Option(
    "base", (), "BASE", "File, folder or revision of git, as it was; or a range of two revisions.", required=True
)
HEAD = Option("head", (), "[HEAD]", "As it is now; of a revision, the working tree if not given.")
PATHS = Option("paths", (), "[PATHS]", "Only files and folders of these names.", TEXTS)
BASELINE = Option("baseline", ("--baseline",), "FILE", "Compare with what this file keeps; new failures alone count.")
UPDATE_BASELINE = Option("update_baseline", ("--update-baseline",), None, "Write --baseline anew.", FLAG)
DEPLOYMENT_FILES = Option(
    "paths",
    (),
    "PATHS",
    "Manifests, compose files, values, scripts, units; folders; - for standard input; REVISION:PATH of git.",
    TEXTS,
    required=True,
)
SET = Option(
    "variables", ("--set",), "NAME=VALUE", "A variable that the files use and do not set, such as MODEL_ID=r1.", TEXTS
)
CHECKED_FILES = DEPLOYMENT_FILES._replace(
    help="Plans (`kvcalc schema plan`), manifests, compose files, values, scripts, units; folders; - for standard "
    "input; REVISION:PATH of git; a fleet.jsonl of any size, a deployment on each line."
)
LOG = Option(
    "log",
    (),
    "WHAT",
    "Log or error of an engine ({known}), address of a server, or - for a pipe.",
    required=True,
    known=_logged_engines,
)
PRESET_NAME = Option("name", (), "NAME", "Preset or alias (`kvcalc presets list`).", required=True, known=_presets)
PRESET_FILES = Option("paths", (), "PATHS", "Preset files or config.json files.", TEXTS, required=True)
TRACE = Option("trace", (), "TRACE", "CSV or JSON lines of requests.", required=True)
CONFIG = Option("path", (), "PATH", "A config.json, or a directory that holds one.", required=True)
ENGINE_NAME = Option("name", (), "NAME", "One of {known}; in a version: vllm@0.33.", required=True, known=_engines)
METHOD_NAME = Option("name", (), "NAME", "Method, as `kvcalc methods list` names it.", required=True, known=_methods)
GPU_WORDS = Option(
    "words",
    (),
    "[WORDS]",
    "A device, or words that describe several: nvidia hopper.",
    TEXTS,
    known=_gpus,
)
PRESET_WORDS = Option("words", (), "[WORDS]", "In name, alias, model_type or source: qwen 27b.", TEXTS, known=_presets)
KIND = Option(
    "kind", ("--kind",), "NAME", "Only models with layers of this attention: {known}.", known=_attention_kinds
)
ESTIMATOR = Option("command", (), "COMMAND", "The estimator, as a shell would start it.", required=True)
MEASURED_ENGINES = Option(
    "engines", ("--engine", "-e"), "NAME", "Only vectors of this engine: {known}.", TEXTS, known=_measured_engines
)
ANSWER_TIMEOUT = Option("timeout", ("--timeout",), "SECONDS", "For the next answer, whichever it is.", COUNT, 60)
SCHEMA_KIND = Option("kind", (), "KIND", "Kind of file or of answer: {known}.", required=True, known=_schemas)
