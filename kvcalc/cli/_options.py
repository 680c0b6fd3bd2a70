"""Options that several commands share, and how their values become what the library takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kvcalc.errors import InvalidValueError, KvcalcError

if TYPE_CHECKING:
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel

Result = TypeVar("Result")


def command_app(help: str | None = None) -> typer.Typer:
    """App of one command, or of several with `help` above them; plain help, like the whole."""
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def complete_preset(incomplete: str) -> list[str]:
    """Presets and aliases that start with what was typed."""
    from kvcalc.io.presets import preset_aliases, preset_names

    names = {*preset_names(), *preset_aliases()}
    return sorted(name for name in names if name.startswith(incomplete.lower()))


def complete_dtype(incomplete: str) -> list[str]:
    """Dtypes that start with what was typed."""
    from kvcalc.cache.dtypes import DTYPES

    return [dtype.name for dtype in DTYPES if dtype.name.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    """Formats that start with what was typed."""
    from kvcalc.formats import FORMATS

    return [name for name in FORMATS.names() if name.startswith(incomplete)]


Preset = Annotated[
    str | None,
    typer.Option("--preset", "-p", metavar="NAME", help="Shipped model, such as r1.", autocompletion=complete_preset),
]
ModelPath = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="PATH", help="Preset YAML, config.json or its directory, or GGUF file."),
]
_TOKENS = typer.Option(
    "--tokens",
    "-t",
    metavar="N",
    help="Cached tokens of a sequence: 100000, 128k (128,000), 128K (131,072); 1K,32K for several.",
)
Tokens = Annotated[list[str], _TOKENS]
TokensIfAny = Annotated[list[str] | None, _TOKENS]
Batch = Annotated[str, typer.Option("--batch", "-b", metavar="N", help="Sequences cached at the same time.")]
DtypeName = Annotated[
    str,
    typer.Option(
        "--dtype",
        "-d",
        metavar="NAME",
        help="Format of the cache: bf16, fp8, int8, int4 ...",
        autocompletion=complete_dtype,
    ),
]
Assume = Annotated[
    str | None,
    typer.Option("--assume", metavar="KIND", help="Read an unknown model_type as gqa, mha or mla; the output says so."),
]
Mtp = Annotated[bool, typer.Option("--mtp", help="With the layers that predict further tokens.")]
Attention = Annotated[
    str | None,
    typer.Option("--attention", metavar="KIND", help="What if it had: mha, mqa, gqa:8, mla:512+64, mla-naive."),
]
Method = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="SPEC", help="What a method leaves: streaming-llm, snapkv:window_size=64 ..."),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", "-e", metavar="NAME", help="Engine to model: vllm, vllm@0.33."),
]
EngineSet = Annotated[
    list[str] | None,
    typer.Option("--engine-set", metavar="NAME=VALUE", help="A setting of the engine, such as window=full."),
]
TensorParallel = Annotated[int, typer.Option("--tp", metavar="N", help="Tensor-parallel ranks, which share heads.")]
PipelineParallel = Annotated[int, typer.Option("--pp", metavar="N", help="Pipeline stages, which share layers.")]
DataParallel = Annotated[int, typer.Option("--dp", metavar="N", help="Data-parallel replicas, which share sequences.")]
ContextParallel = Annotated[
    int, typer.Option("--dcp", metavar="N", help="Tensor-parallel ranks that share tokens, where an engine does.")
]
Format = Annotated[
    str, typer.Option("--format", "-f", metavar="NAME", help="How to print it.", autocompletion=complete_format)
]


def located(option: str, read: Callable[..., Result], *values: Any, **named: Any) -> Result:
    """Result of `read`; an error says which option its value came from."""
    try:
        return read(*values, **named)
    except KvcalcError as error:
        raise error.at(option) if not error.where else error from None


def token_counts(texts: Sequence[str]) -> list[int]:
    """Token counts of all --tokens, each of which may hold several, separated by commas."""
    from kvcalc.units import parse_tokens

    return [located("--tokens", parse_tokens, part) for text in texts for part in text.split(",")]


def token_counts_or_own(command: str, texts: Sequence[str] | None, engine: str) -> Sequence[int | None]:
    """Token counts of all --tokens; without any the model's own context (None), where an engine has one to make."""
    from kvcalc.engines import Engine

    if texts:
        return token_counts(texts)
    if located("--engine", Engine.of, engine).SHARES_CONTEXT:
        return [None]
    raise InvalidValueError(
        "missing option '--tokens' / '-t'", where=f"kvcalc {command}", help=f"`kvcalc {command} --help` shows how"
    )


def question(batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None) -> dict[str, Any]:
    """What `size` takes beside a model and its tokens, each value checked under the option that it came from."""
    from kvcalc.engines import Engine

    asked = _workload(batch, dtype, engine, engine_set)
    given = asked["engine_settings"]
    located("--engine-set" if given else "--engine", Engine.of, engine, given)
    return asked


def _workload(batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None) -> dict[str, Any]:
    """Users, format and engine, whose settings are of its fields' types and not yet checked."""
    from kvcalc.cache.dtypes import dtype_named
    from kvcalc.units import parse_tokens

    return {
        "engine_settings": settings(engine, engine_set),
        "sequences": located("--batch", parse_tokens, batch, "batch"),
        "kv_dtype": located("--dtype", dtype_named, dtype),
        "engine": engine,
    }


def settings(engine: str, engine_set: Sequence[str] | None) -> dict[str, Any]:
    """Settings of all --engine-set, typed as the engine's fields are."""
    from kvcalc.engines import Engine

    by_default = located("--engine", Engine.of, engine)
    if not engine_set:
        return {}

    from kvcalc.engines.base.reading import read_settings

    return located("--engine-set", read_settings, type(by_default), engine_set)


def fit_question(  # what is asked of GPUs, each value checked under its option
    batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None, gpu: str, utilization: str | None
) -> dict[str, Any]:
    """What `fit_gpus` takes beside a model, its weights and the ranks."""
    from kvcalc.fleet.fit import engine_on
    from kvcalc.fleet.memory import share_of
    from kvcalc.hardware import gpu_named

    located("--gpu", gpu_named, gpu)
    share = None if utilization is None else located("--utilization", share_of, utilization, "utilization")
    asked = _workload(batch, dtype, engine, engine_set)
    given = asked["engine_settings"]
    located("--engine-set" if given else "--engine", engine_on, gpu, engine, given, share)
    return {**asked, "gpu": gpu, "utilization": share}


def parallel(tp: int, pp: int, dp: int, dcp: int = 1) -> Parallel | None:
    """Layout of --tp, --pp, --dp and --dcp; None for one rank, which needs none."""
    if (tp, pp, dp, dcp) == (1, 1, 1, 1):
        return None

    from kvcalc.parallel import Parallel

    options = "--tp, --pp, --dp" if dcp == 1 else "--tp, --pp, --dp, --dcp"
    return located(options, Parallel, tp, pp, dp, dcp)


def one_model(
    preset: str | None,
    path: str | None,
    attention: str | None = None,
    assume: str | None = None,
    *,
    mtp: bool = False,
    methods: Sequence[str] | None = None,
) -> Model:
    """Model of --preset or --model, as --assume, --mtp, --attention and then each --method want it."""
    from pathlib import Path

    from kvcalc.io.loading import load_path
    from kvcalc.io.presets import load_preset
    from kvcalc.model import with_draft_layers

    if (preset is None) == (path is None):
        state = "neither --preset nor --model is given" if preset is None else "--preset and --model are both given"
        raise InvalidValueError(state, help="name one model: --preset r1, or --model path/to/config.json")
    if preset is not None:
        model = located("--preset", load_preset, preset)
    else:
        _known_assumption(assume)
        model = located("--model", load_path, Path(str(path)), assume=assume)
    if mtp:
        model = located("--mtp", with_draft_layers, model)
    for option, specs in (("--attention", () if attention is None else (attention,)), ("--method", methods or ())):
        for spec in specs:
            model = _under(option, model, spec)
    return model


def _under(option: str, model: Model, spec: str) -> Model:
    """The model under a method; loaded only where one is asked for."""
    from kvcalc.methods import apply_method

    return located(option, apply_method, model, spec)


def _known_assumption(assume: str | None) -> None:
    if assume is None:
        return

    from kvcalc.io.hf_config import check_assumption

    located("--assume", check_assumption, assume)
