"""What transformers itself holds of a model, layer by layer, beside what `--engine transformers` says it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.io.documents import parse_json, read_text
from kvcalc.io.loading import is_hf_config, load
from kvcalc.report.size import GroupReport, Report
from kvcalc.report.verification import MeasuredTensor, Verification
from kvcalc.sizing import size
from kvcalc.units import count, shown
from kvcalc.verify.transformers.classes import VERSION, build, class_name, config_of, text_part
from kvcalc.verify.transformers.held import LayerBytes, counted, held_by
from kvcalc.verify.transformers.inputs import ENCODER_TOKENS
from kvcalc.verify.transformers.no_values import NoValues
from kvcalc.verify.transformers.running import cache_after
from kvcalc.workload import Workload

DEVICES = ("cpu", "cuda", "meta")
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Formats of a model's weights: its cache has theirs."""
_MESSAGE_CHARACTERS = 160
"""Longest message of the library that is repeated."""
Progress = Callable[[int, int], None]
"""Called with the passes through the model that are done, and all of them."""


class _Run(NamedTuple):
    """A class that was built and run: what its cache held, and remarks on how."""

    class_name: str
    held: Mapping[str, list[LayerBytes]]
    notes: tuple[str, ...]


def against_transformers(  # noqa: PLR0913  # what is asked, and how it is run
    config: Mapping[str, Any] | Path,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str = "bf16",
    device: str = "cpu",
    decode_steps: int = 1,
    encoder_tokens: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Verification:
    """Builds the library's class for a config.json, runs it, and compares its own cache with the prediction.

    config: fields of a config.json, or the path of one. kv_dtype: bf16, fp16 or fp32, the weights' too. device: cpu,
    cuda, or meta: full size, without memory or values. decode_steps: how many of the `tokens` come one by one after
    the prompt. encoder_tokens: what cross-attention looks at; by default as many as the model fixes.
    Weights are random and attention is eager: no byte of the cache depends on either.
    Raises NotApplicableError for a type or format that transformers does not have, InvalidValueError for a bad value,
    KvcalcError where the library itself stops.
    """
    workload = _workload(tokens, sequences, kv_dtype)
    _check_device(device)
    values = fields_of(config)
    model = load(config)
    steps = _steps(decode_steps, workload.tokens)
    settings: dict[str, Any] = {"prompt_tokens": workload.tokens - steps, "decode_steps": steps}
    if encoder_tokens is not None:
        settings["encoder_tokens"] = encoder_tokens
    report = size(
        model,
        tokens=workload.tokens,
        sequences=workload.sequences,
        kv_dtype=workload.kv_dtype,
        engine="transformers",
        engine_settings=settings,
    )
    run = _run(values, workload, steps, device, _encoder_tokens(report, encoder_tokens), progress)
    return Verification(
        model=model.name,
        tokens=workload.tokens,
        sequences=workload.sequences,
        kv_dtype=workload.kv_dtype.name,
        device=device,
        decode_steps=steps,
        tensors=tuple(compared(report, run.held)),
        notes=run.notes,
        against=f"{run.class_name} of transformers {VERSION}",
    )


# ---- what is asked ---------------------------------------------------------------------------------------------------


def fields_of(config: Mapping[str, Any] | Path) -> Mapping[str, Any]:
    """Fields of a config.json, given as they are or as the path of the file or its folder.

    Raises InvalidValueError for a preset, which is no config of the library.
    """
    if isinstance(config, Mapping):
        values: Any = config
    else:
        path = config / "config.json" if config.is_dir() else config
        values = parse_json(read_text(path), str(path)).data if path.suffix == ".json" else None
    if not is_hf_config(values):
        raise InvalidValueError(
            "transformers builds its class from a config.json, and this is none",
            help="pass the config.json of the model with --model",
        )
    return values  # type: ignore[no-any-return]


def _workload(tokens: int, sequences: int, kv_dtype: str) -> Workload:
    workload = Workload.of(tokens, sequences, kv_dtype)
    if workload.kv_dtype.name not in TORCH_DTYPES:
        raise NotApplicableError(
            f"transformers keeps its cache in the weights' format, and that is not {workload.kv_dtype.name}",
            help=f"verify with {', '.join(TORCH_DTYPES)}",
        )
    return workload


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise InvalidValueError(f"device must be one of {', '.join(DEVICES)}, not {shown(device)}", help="write meta")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("torch finds no CUDA device", help="write cpu or meta")


def _steps(decode_steps: int, tokens: int) -> int:
    """The decode steps, as many as leave a prompt."""
    if type(decode_steps) is not int or decode_steps < 0:
        raise InvalidValueError(
            f"decode_steps must be a whole number of at least 0, not {shown(decode_steps)}", help="write 1"
        )
    return min(decode_steps, tokens - 1)


def _encoder_tokens(report: Report, given: int | None) -> int:
    """As many as were given, or as the model itself fixes."""
    cross = (t.slots for group in report.groups for t in group.tensors if t.name.startswith("cross_"))
    return given or next((slots for slots in cross if slots), ENCODER_TOKENS)


# ---- what is run -----------------------------------------------------------------------------------------------------


def _run(
    values: Mapping[str, Any], workload: Workload, steps: int, device: str, encoder_tokens: int, progress: Progress
) -> _Run:
    """The whole class run on text; where it cannot be without pictures or sound, its text part alone."""
    model_type = values.get("model_type")
    whole = class_name(model_type, values.get("architectures") or ())
    if whole is None:
        raise _no_class(model_type)
    with _library(f"read the config of {whole}"):
        config = config_of(values)
        inner_name, inner = text_part(config)

    def passed(name: str, its_config: Any) -> _Run:
        with torch.no_grad(), NoValues() if device == "meta" else nullcontext() as no_values:
            with _library(f"build {name}"):
                model = build(name, its_config, TORCH_DTYPES[workload.kv_dtype.name], device)
            with _library(f"run {name}"):
                cache = cache_after(
                    model,
                    batch=workload.sequences,
                    prompt=workload.tokens - steps,
                    decode=steps,
                    encoder_tokens=encoder_tokens,
                    progress=progress,
                )
            weights = sum(weight.numel() for weight in model.parameters())
            asked = no_values is not None and no_values.asked
            return _Run(name, counted(held_by(model, cache)), tuple(_remarks(weights, device, asked)))

    try:
        return passed(whole, config)
    except KvcalcError:
        if inner is config:
            raise
    run = passed(inner_name, inner)
    return run._replace(notes=(f"the text part alone was run: {whole} wants more than text", *run.notes))


def _remarks(weights: int, device: str, asked: bool) -> Iterator[str]:
    yield f"built at full size: {count(weights)} random weights, eager attention"
    if device == "meta":
        yield "on meta there are shapes and no values; bytes are those of the same tensors elsewhere" + (
            ". Where the class asks for a value, such as which expert gets a token, it is told zero: no cache depends "
            "on it"
            if asked
            else ""
        )


def _no_class(model_type: object) -> NotApplicableError:
    return NotApplicableError(
        f"transformers {VERSION} has no class that generates text for model_type {shown(model_type)}; "
        "if its code comes with its weights, kvcalc never runs it",
        help="`kvcalc verify` without --against runs kvcalc's own modules",
    )


@contextmanager
def _library(deed: str) -> Iterator[None]:
    """Whatever the library raises while it does something, as one line."""
    try:
        yield
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), "")
        message = f"{type(error).__name__}: {first_line}"[:_MESSAGE_CHARACTERS]
        raise KvcalcError(
            f"transformers {VERSION} cannot {deed}: {message}",
            help="`kvcalc verify` without --against runs kvcalc's own modules",
        ) from error


# ---- what is compared ------------------------------------------------------------------------------------------------


def compared(report: Report, held: Mapping[str, list[LayerBytes]]) -> Iterator[MeasuredTensor]:
    """Rows of all layers of each group that hold the same; of the layers that nobody predicted at the end."""
    for group in report.groups:
        yield from _rows_of(group, held)
    for part, layers in held.items():
        extra = range(report.num_layers, len(layers))
        yield from (_row("not predicted", part, (layer,), (0, 0), layers[layer]) for layer in extra)


def _rows_of(group: GroupReport, held: Mapping[str, list[LayerBytes]]) -> Iterator[MeasuredTensor]:
    for part, is_cross in (("self", False), ("cross", True)):
        mine = [tensor for tensor in group.tensors if tensor.name.startswith("cross_") == is_cross]
        predicted = (
            sum(t.bytes for t in mine) // group.num_layers,
            sum(t.storage_bytes for t in mine) // group.num_layers,
        )
        alike: dict[LayerBytes, list[int]] = {}
        for layer in group.layers:
            measured = held.get(part, [])
            alike.setdefault(measured[layer] if layer < len(measured) else LayerBytes(), []).append(layer)
        for found, layers in alike.items():
            if predicted != (0, 0) or found.logical_bytes:
                which = f"{len(layers)} {group.name}" + (f" ({ranges(layers)})" if len(alike) > 1 else "")
                yield _row(which, part, tuple(layers), predicted, found)


def _row(
    group: str, part: str, layers: tuple[int, ...], predicted: tuple[int, int], found: LayerBytes
) -> MeasuredTensor:
    """All of some layers that hold the same. predicted: bytes of one layer, and of the memory behind them."""
    number = len(layers)
    return MeasuredTensor(
        group=group,
        name=part,
        shape=found.shapes[0] if found.shapes else (),
        dtype=", ".join(dict.fromkeys(found.dtypes)),
        predicted_bytes=number * predicted[0],
        logical_bytes=number * found.logical_bytes,
        storage_bytes=number * found.storage_bytes,
        predicted_storage_bytes=number * predicted[1],
        layers=layers,
        shapes=found.shapes,
    )


def ranges(numbers: list[int]) -> str:
    """`0-2, 5` for 0, 1, 2, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
