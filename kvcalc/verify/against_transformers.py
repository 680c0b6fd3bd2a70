"""A model's cache in transformers itself, layer by layer, compared with `--engine transformers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from kvcalc.answers.size import sized
from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.transformers.versions import TransformersRelease
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.io.documents import parse_json, read_text
from kvcalc.io.loading import is_hf_config, load
from kvcalc.model import Model
from kvcalc.question import Question
from kvcalc.report.size import Report
from kvcalc.report.verification import Verification
from kvcalc.units import both_units, count, positive_int, shown
from kvcalc.verify.devices import device_named, torch_dtype
from kvcalc.verify.transformers.classes import NUMBER, VERSION, build, class_name, config_of, text_part
from kvcalc.verify.transformers.held import LayerBytes, counted, held_by
from kvcalc.verify.transformers.inputs import ENCODER_TOKENS
from kvcalc.verify.transformers.no_values import NoValues
from kvcalc.verify.transformers.rows import compared, predicted_of
from kvcalc.verify.transformers.running import STEPS_IN_GENERATE, cache_after
from kvcalc.verify.transformers.shrinking import Fitted, fitted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_MESSAGE_CHARACTERS = 160
"""Longest part of a library's message that is shown."""
_STOPPED = "device-side assert"
_WITHOUT = "`kvcalc verify` without --against runs kvcalc's own modules"
BUILT_IN_ONE_FORMAT = {
    "deepseek_v4": "weights that transformers always loads as float32 (position_bias) were built in the others' "
    "format: as loaded, the gates of csa layers' last block would also be float32"
}
"""Types with a buffer that would inherit float32 from such a weight, and the note about it."""
_RELEASE = TransformersRelease(TransformersRelease.named(TransformersRelease.nearest(NUMBER)))
"""Rules of the installed version, or of the nearest known one."""
Progress = Callable[[int, int], None]
"""Called with the number of passes done, and of all passes."""


class _StoppedDeviceError(KvcalcError):
    """CUDA stopped inside a kernel; nothing more runs in this process."""


class _Run(NamedTuple):
    """A class that was built and run: the contents of its cache, and notes."""

    class_name: str
    held: Mapping[str, list[LayerBytes]]
    notes: tuple[str, ...]


def against_transformers(  # noqa: PLR0913  # what is asked, and how it is run
    config: Mapping[str, object] | Path,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str = "bf16",
    device: str = "cpu",
    decode_steps: int = 1,
    encoder_tokens: int | None = None,
    memory_bytes: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Verification:
    """Builds the library's class for a config.json, runs it, and compares its own cache with the prediction.

    config: fields of a config.json, or the path of one. kv_dtype: bf16, fp16 or fp32, the weights' too. device: cpu,
    cuda, or meta: full size, without memory or values. decode_steps: how many of the `tokens` are decoded one by one
    after the prompt. encoder_tokens: tokens that cross-attention attends to; by default the model's own number.
    memory_bytes: limit for weights, cache and work on cpu or cuda; by default most of the free memory. A model that
    does not fit is shrunk in fields that no cache depends on, then loses its last layers; the notes say how much.
    Weights are random and attention is eager: no byte of the cache depends on either. Raises NotApplicableError for a
    type or format that transformers does not have, InvalidValueError for a bad value, KvcalcError if the library itself
    fails.
    """
    _check_format(dtype_named(kv_dtype))
    device = device_named(device)
    values = fields_of(config)
    model = load(config)
    steps = _steps(decode_steps, positive_int(tokens, "tokens"))
    if values.get("model_type") in STEPS_IN_GENERATE:
        steps = 0
    settings = {
        "version": _RELEASE.version,
        "prompt_tokens": tokens - steps,
        "decode_steps": steps,
        "encoder_tokens": encoder_tokens,
    }
    engine = Engine.of("transformers", settings)
    asked = Question.of(model, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype, engine=engine)
    question = _Passes(asked, steps, device)
    report = question.report(model)
    class_name = _class_name(values)
    notes: tuple[str, ...] = ()
    if device != "meta":
        part = _fitting(question, values, report, memory_bytes)
        values, whole = part.values, report
        if part.changes:
            report = question.report(load(values))
            notes = (_cut(part, whole),)
    run = _run(question, values, class_name, _encoder_tokens(report, encoder_tokens), progress)
    return Verification(
        model=model.name,
        tokens=asked.tokens,
        sequences=asked.sequences,
        kv_dtype=asked.kv_dtype.name,
        device=device,
        decode_steps=question.decode_steps,
        tensors=tuple(compared(report, run.held)),
        notes=(*notes, *run.notes),
        against=f"{run.class_name} of transformers {VERSION}",
    )


class _Passes(NamedTuple):
    """A question of `--engine transformers`, and how its tokens pass through the class: a prompt, then decode_steps."""

    asked: Question
    decode_steps: int
    device: str

    @property
    def prompt_tokens(self) -> int:
        return self.asked.tokens - self.decode_steps

    @property
    def dtype(self) -> torch.dtype:
        return torch_dtype(self.asked.kv_dtype.name)

    def report(self, model: Model) -> Report:
        """The prediction for a model."""
        return sized(self.asked.of_model(model))


# ---- what is asked ---------------------------------------------------------------------------------------------------


def fields_of(config: Mapping[str, object] | Path) -> Mapping[str, object]:
    """Fields of a config.json, given as they are or as the path of the file or its folder.

    Raises InvalidValueError for a preset, which is not a config of the library.
    """
    if isinstance(config, Mapping):
        values: object = config
    else:
        path = config / "config.json" if config.is_dir() else config
        values = parse_json(read_text(path), str(path)).data if path.suffix == ".json" else None
    if not is_hf_config(values):
        raise InvalidValueError(
            "transformers builds its class from a config.json, which this model does not have",
            help="pass the config.json of the model with --model",
        )
    return values


def _check_format(kv_dtype: Dtype) -> None:
    """Raises NotApplicableError for a format that weights do not have."""
    if not kv_dtype.is_computed_in:
        raise NotApplicableError(
            f"transformers keeps its cache in the weights' format, which cannot be {kv_dtype.name}",
            help="verify with bf16, fp16 or fp32",
        )


def _steps(decode_steps: int, tokens: int) -> int:
    """The decode steps, as many as leave a prompt."""
    if type(decode_steps) is not int or decode_steps < 0:
        raise InvalidValueError(
            f"decode_steps must be a whole number of at least 0, not {shown(decode_steps)}", help="write 1"
        )
    return min(decode_steps, tokens - 1)


def _encoder_tokens(report: Report, given: int | None) -> int:
    """As given, or as the model fixes them."""
    cross = (t.slots for group in report.groups for t in group.tensors if t.name.startswith("cross_"))
    return given or next((slots for slots in cross if slots), ENCODER_TOKENS)


def _class_name(values: Mapping[str, object]) -> str:
    """The library's class for a config.json. Raises NotApplicableError if it has none."""
    model_type = values.get("model_type")
    name = class_name(model_type, values.get("architectures"))
    if name is None:
        raise NotApplicableError(
            f"transformers {VERSION} has no class that generates text for model_type {shown(model_type)}; if its code "
            "comes with its weights, kvcalc never runs it",
            help=_WITHOUT,
        )
    return name


# ---- what fits -------------------------------------------------------------------------------------------------------


def _fitting(question: _Passes, values: Mapping[str, object], report: Report, memory_bytes: int | None) -> Fitted:
    """The config whose model is run: unchanged if it fits in memory."""
    if memory_bytes is None:
        from kvcalc.verify.memory import free_memory_bytes

        memory_bytes = free_memory_bytes(question.device)

    def cache_of(changed: Mapping[str, object]) -> tuple[tuple[int, ...], ...]:
        try:
            return _bytes_by_layer(question.report(load(changed)))
        except KvcalcError:  # a field that the others are checked against
            return ()

    return fitted(
        values,
        memory_bytes,
        needs=lambda changed: _needed_bytes(question, changed),
        cache_of=cache_of,
        least=1 + max(group.layers[0] for group in report.groups),
    )


def _needed_bytes(question: _Passes, values: Mapping[str, object]) -> int:
    """Weights, cache, and the largest work at once: scores and their softmax in float32, and logits."""
    name = _class_name(values)
    with torch.no_grad(), NoValues(), _library(f"build {name}"):
        config = config_of(values)
        model = build(name, config, question.dtype, "meta")
    weights_bytes: int = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 0) or 0
    tokens, item_bytes = question.prompt_tokens, question.dtype.itemsize + torch.float32.itemsize
    work = max((heads if isinstance(heads, int) else 0) * tokens * 2, getattr(text, "vocab_size", 0) or 0)
    work_bytes = question.asked.sequences * tokens * work * item_bytes
    return weights_bytes + question.report(load(values)).storage_bytes + work_bytes


def _bytes_by_layer(report: Report) -> tuple[tuple[int, ...], ...]:
    """Each layer's predicted tensors of self- and cross-attention, and the memory behind them."""
    by_layer = {
        layer: (*predicted_of(group, cross=False), *predicted_of(group, cross=True))
        for group in report.groups
        for layer in group.layers
    }
    return tuple(by_layer[layer] for layer in sorted(by_layer))


def _cut(part: Fitted, whole: Report) -> str:
    """What was shrunk, and what that leaves unchanged."""
    note = f"shrunk to fit in memory: {part.changes}; each layer's cache has its full size"
    if part.layers == whole.num_layers:
        return note
    return (
        f"{note}. The bytes above are those layers'; all of them are predicted to take {both_units(whole.total_bytes)}"
    )


# ---- what is run -----------------------------------------------------------------------------------------------------


def _run(question: _Passes, values: Mapping[str, object], name: str, encoder_tokens: int, progress: Progress) -> _Run:
    """The whole class run on text, or only its text part if it cannot run without pictures or sound."""
    with _library(f"read the config of {name}"):
        config = config_of(values)
        inner_name, inner = text_part(config)
    try:
        return _passed(question, name, config, encoder_tokens, progress)
    except _StoppedDeviceError:
        raise
    except KvcalcError:
        if inner is config:
            raise
    run = _passed(question, inner_name, inner, encoder_tokens, progress)
    return run._replace(notes=(f"only the text part was run: {name} needs more than text", *run.notes))


def _passed(question: _Passes, name: str, config: PreTrainedConfig, encoder_tokens: int, progress: Progress) -> _Run:
    """A class built, a prompt and single tokens passed through it, and its cache read."""
    one_format = config.model_type in BUILT_IN_ONE_FORMAT
    with torch.no_grad(), NoValues() if question.device == "meta" else nullcontext() as no_values:
        with _library(f"build {name}"):
            model = build(name, config, question.dtype, question.device, as_loaded=not one_format)
        with _library(f"run {name}"):
            cache = cache_after(
                model,
                batch=question.asked.sequences,
                prompt=question.prompt_tokens,
                decode=question.decode_steps,
                encoder_tokens=encoder_tokens,
                progress=progress,
            )
        held = counted(held_by(model, cache))
    weights = sum(weight.numel() for weight in model.parameters())
    notes = [f"built with {count(weights)} random weights and eager attention"]
    if question.device == "meta":
        notes.append("on meta a tensor has a size but no values")
    if no_values and no_values.asked:
        notes[-1] += (
            "; where the class needs one, such as which expert gets a token, it gets zero: no cache depends on it"
        )
    if one_format and question.dtype != torch.float32 and not _RELEASE.gates_in_float32:
        notes.append(BUILT_IN_ONE_FORMAT[config.model_type])
    return _Run(name, held, tuple(notes))


@contextmanager
def _library(deed: str) -> Iterator[None]:
    """Any error of the library during this step, as one line."""
    try:
        yield
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), "")
        message = f"{type(error).__name__}: {first_line}"[:_MESSAGE_CHARACTERS]
        if _STOPPED in message:
            raise _StoppedDeviceError(
                f"transformers {VERSION} cannot {deed}: {message}",
                help="--device cpu shows the reason; more tokens than the model has positions fail like this",
            ) from error
        raise KvcalcError(
            f"transformers {VERSION} cannot {deed}: {message}",
            help=_WITHOUT,
        ) from error
