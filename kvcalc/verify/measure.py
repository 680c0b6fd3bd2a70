"""Builds a model's attention, fills its caches, runs decode steps, and counts the caches' bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kvcalc.answers.size import sized
from kvcalc.attention.cross import CrossAttention
from kvcalc.errors import NotApplicableError
from kvcalc.model import Applied, Attention, LayerGroup, Model
from kvcalc.question import Question
from kvcalc.report.size import GroupReport, TensorReport
from kvcalc.report.verification import MeasuredTensor, Verification
from kvcalc.units import both_units, count, plural, positive_int
from kvcalc.verify.child import OutOfMemoryError, is_out_of_memory
from kvcalc.verify.devices import device_named, torch_dtype
from kvcalc.verify.layer import Caches, Layer
from kvcalc.verify.memory import Meter, free_memory_bytes, meter_for
from kvcalc.verify.modules._module import Context, Kept
from kvcalc.verify.slices import first_layers, largest_slice
from kvcalc.verify.under_methods import PolicyRun, policy_of, steps_of

CHUNK_TOKENS = 512
"""Prompt tokens projected together."""
ATTENDED_TOKENS = 256
"""Prompts up to this length go through attention; for longer ones rows are written, and only decode steps attend."""
Progress = Callable[[int, int], None]
"""Called with the layers done and all of them."""


class Run(NamedTuple):
    """How a question is run: for the slice that fits, and how its tokens arrive."""

    asked: Question
    device: str
    decode_steps: int
    attended_tokens: int
    under: PolicyRun | None = None

    @property
    def prompt(self) -> int:
        """Tokens that come before the decode steps."""
        return self.asked.tokens - self.decode_steps

    @property
    def attends_prompt(self) -> bool:
        """Whether the prompt goes through attention too."""
        return self.prompt <= self.attended_tokens


def verify(  # noqa: PLR0913  # what is asked, and how it is run
    model: Model,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str = "bf16",
    device: str | None = None,
    decode_steps: int = 2,
    attended_tokens: int | None = None,
    encoder_tokens: int | None = None,
    layers: int | None = None,
    memory_bytes: int | None = None,
    fresh_process: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Verification:
    """Runs torch modules of `model` until each sequence has `tokens` tokens cached, and counts their caches.

    device: cpu, cuda or meta (only shapes, of any size); by default cuda if there is one, else cpu.
    decode_steps: how many of the tokens are decoded one by one, through attention. attended_tokens: prompts up to this
    length (by default 256) go through attention as well. encoder_tokens: tokens that cross-attention attends to, if the
    model does not fix them. layers: only the model's first layers, this many. memory_bytes: limit for the caches; by
    default most of the free memory. What does not fit is cut to the largest slice that does, named in the notes.
    fresh_process: whether nothing else ran in this process, so that its memory can be compared. A model under a method
    that selects tokens runs that method's policy, without reading the process's memory. The layers of a group share one
    module's weights; each has its own cache. Raises NotApplicableError for a format that torch does not store,
    InvalidValueError for a bad value, OutOfMemoryError, with what would fit, if there is less memory than expected.
    """
    whole = Question.of(model, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype)
    torch_dtype(whole.kv_dtype.name)
    applied = policy_of(model)
    device = device_named(device)
    whole = whole.of_model(with_encoder(model, encoder_tokens))
    asked = whole if layers is None else whole.of_model(first_layers(whole.model, positive_int(layers, "layers")))
    cut = asked if device == "meta" else largest_slice(asked, memory_bytes or free_memory_bytes(device))
    steps = min(positive_int(decode_steps, "decode_steps"), cut.tokens)
    if applied:
        under = _under(applied, whole.model, cut, device, steps)
        steps = under.steps.decode_steps
    run = Run(cut, device, steps, _attended(attended_tokens), under if applied else None)
    meter = meter_for(device, fresh_process=fresh_process and not applied)
    held: list[Caches] = []  # all of them live until the end, so that memory held their sum
    try:
        measured = _filled(run, held, meter, progress)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _ran_out(run, held) from None
    return Verification(
        model=model.name,
        tokens=cut.tokens,
        sequences=sequences,
        kv_dtype=cut.kv_dtype.name,
        device=device,
        decode_steps=steps,
        tensors=measured,
        notes=(*_cut(whole, run), *_way(run)),
        memory=meter.reading(_storages_of(held), let_go=held.clear),
    )


def _filled(run: Run, held: list[Caches], meter: Meter, progress: Progress) -> tuple[MeasuredTensor, ...]:
    """Puts the caches of all layers into `held`, and counts their tensors."""
    part, report = run.asked.model, sized(run.asked)
    measured: list[MeasuredTensor] = []
    with torch.no_grad():
        for group, predicted in zip(part.groups, report.groups, strict=True):
            before = len(held)
            for caches in _cached(run, group, meter):
                held.append(caches)
                progress(len(held), part.num_layers)
            measured += _measured(group, predicted, held[before:])
    return tuple(measured)


def _ran_out(run: Run, held: list[Caches]) -> OutOfMemoryError:
    """The error that memory ran out, with the slice that fits in what had been filled."""
    layers, others = run.asked.model.num_layers, "fewer --tokens, or --device meta"
    what = f"memory ran out in layer {count(len(held) + 1)} of {plural(layers, 'layer')}, after "
    what += f"{both_units(sum(_storages_of(held)))} of caches"
    if not any(_storages_of(held)):
        return OutOfMemoryError(what, help=f"run a smaller slice: {others}")
    cut = largest_slice(run.asked, sum(_storages_of(held)))
    fits = f"--layers {cut.model.num_layers}"
    if cut.tokens < run.asked.tokens:
        fits += f" --tokens {cut.tokens}"
    return OutOfMemoryError(what, help=f"run a smaller slice: {fits} fits; or {others}")


def _attended(given: int | None) -> int:
    """Longest prompt that goes through attention."""
    return ATTENDED_TOKENS if given is None else positive_int(given, "attended_tokens")


def _under(applied: Applied, model: Model, asked: Question, device: str, decode_steps: int) -> PolicyRun:
    """How the method that selects tokens is run. Raises NotApplicableError if it cannot be."""
    dtype = torch_dtype(asked.kv_dtype.name)
    if not asked.kv_dtype.is_computed_in or device == "meta":
        where = "on meta, where there are no values to select by" if device == "meta" else f"in {asked.kv_dtype}"
        raise NotApplicableError(f"{applied.name} is not run {where}", help="verify with --dtype bf16 and --device cpu")
    steps = steps_of(applied, asked.tokens, decode_steps)
    return PolicyRun(applied, steps, model.num_layers, asked.sequences, dtype, device)


def with_encoder(model: Model, encoder_tokens: int | None) -> Model:
    """`model` with cross-attention over `encoder_tokens`, if it does not fix their number itself.

    None: the model's maximum, as the ideal engine assumes.
    """
    if encoder_tokens is not None:
        positive_int(encoder_tokens, "encoder_tokens")
    tokens = encoder_tokens or model.max_model_len
    if tokens is None:
        return model
    return replace(model, groups=tuple(_encoding_group(group, tokens) for group in model.groups))


def _encoding_group(group: LayerGroup, encoder_tokens: int) -> LayerGroup:
    """A group with cross-attention over this many tokens; others stay as methods have changed them."""
    parts = [_encoding(part, encoder_tokens) for part in group.parts]
    same = tuple(parts) == group.parts
    return group if same else LayerGroup.of(group.name, group.layers, parts, group.origins)


def _encoding(part: Attention, encoder_tokens: int) -> Attention:
    if isinstance(part, CrossAttention) and part.encoder_tokens is None:
        return replace(part, encoder_tokens=encoder_tokens)
    return part


# ---- running


def _cached(run: Run, group: LayerGroup, meter: Meter) -> Iterator[Caches]:
    """Caches of all layers of a group with the run's tokens; those of the first layer went through attention."""
    if run.under and not group.is_as_built:
        yield from run.under.caches(group)
        return
    stored = torch_dtype(run.asked.kv_dtype.name)
    computed = stored if stored.itemsize > 1 else torch.bfloat16  # fp8 is stored, and computed with in bf16
    layer = Layer(group.parts, dtype=computed, device=run.device)
    kept = layer.kept(_hidden(layer, run, min(CHUNK_TOKENS, run.asked.tokens)))
    with meter:
        for number in range(len(group.layers)):
            caches = layer.new_caches(run.asked.sequences, run.asked.tokens, stored)
            if number == 0:
                first = caches
                _touch(caches)
            else:
                layer.write(kept, caches, run.asked.tokens)
            yield caches
    _run(run, layer, kept, first)


def _touch(caches: Caches) -> None:
    """Writes every byte, so that its memory is resident before anything is measured."""
    for cache in caches:
        for held in cache.values():
            held.data.view(torch.uint8).zero_()


def _run(run: Run, layer: Layer, kept: tuple[Kept, ...], caches: Caches) -> None:
    """A prompt in chunks, through attention if it is short enough, then the decode steps through attention."""
    encoded = _hidden(layer, run, _encoder_tokens(layer))
    if not run.attends_prompt:
        layer.write(kept, caches, run.prompt)
    else:
        for start in range(0, run.prompt, CHUNK_TOKENS):
            layer(_hidden(layer, run, min(CHUNK_TOKENS, run.prompt - start)), caches, Context(encoded=encoded))
    for _ in range(run.decode_steps):
        layer(_hidden(layer, run, 1), caches, Context(encoded=encoded))


def _encoder_tokens(layer: Layer) -> int:
    """Input of the layer's cross-attention; None without one."""
    return max(getattr(part.facts, "encoder_tokens", None) or 0 for part in layer.modules_of_parts())


def _hidden(layer: Layer, run: Run, tokens: int) -> Tensor:
    """Random input (sequences, tokens, hidden_size)."""
    shape = (run.asked.sequences, tokens, layer.hidden_size)
    return torch.randn(shape, dtype=layer.dtype, device=layer.device)


# ---- counting


def _measured(group: LayerGroup, predicted: GroupReport, layers: list[Caches]) -> Iterator[MeasuredTensor]:
    """Bytes of each tensor of a group over its layers; a tensor that only one side has counts as 0 on the other."""
    expected = _by_part(group, predicted) if group.is_as_built else {(0, t.name): t for t in predicted.tensors}
    names = dict.fromkeys([*expected, *((part, name) for part, cache in enumerate(layers[0]) for name in cache)])
    for part, name in names:
        held = [caches[part][name].data for caches in layers if name in caches[part]]
        tensor = expected.get((part, name))
        yield MeasuredTensor(
            group=f"{predicted.num_layers} {predicted.name}",
            name=name,
            shape=tuple(held[0].shape) if held else (),
            dtype=str(held[0].dtype).removeprefix("torch.") if held else "",
            predicted_bytes=tensor.bytes if tensor else 0,
            logical_bytes=sum(data.numel() * data.element_size() for data in held),
            storage_bytes=sum(storages(held)),
            predicted_storage_bytes=tensor.storage_bytes if tensor and tensor.storage_bytes != tensor.bytes else None,
        )


def _by_part(group: LayerGroup, predicted: GroupReport) -> dict[tuple[int, str], TensorReport]:
    """Predicted tensors by the part of a layer that they belong to, and their name."""
    places = [(number, tensor.name) for number, part in enumerate(group.parts) for tensor in part.tensors()]
    return dict(zip(places, predicted.tensors, strict=True))


def _storages_of(held: Iterable[Caches]) -> list[int]:
    """Bytes of the storages behind all caches."""
    return storages(tensor.data for caches in held for cache in caches for tensor in cache.values())


def storages(tensors: Iterable[Tensor]) -> list[int]:
    """Bytes of the distinct storages behind tensors."""
    distinct = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return list(distinct.values())


# ---- what was run


def _cut(whole: Question, run: Run) -> Iterator[str]:
    """The slice that was run, and the prediction for the full model."""
    part, all_layers = run.asked, whole.model.num_layers
    if part.model.num_layers == all_layers and part.tokens == whole.tokens:
        return
    layers = f"{count(part.model.num_layers)} of {plural(all_layers, 'layer')}"
    length = f"{count(part.tokens)} of {plural(whole.tokens, 'token')}"
    yield (
        f"a slice was run: {layers}, {length}; the bytes above are the slice's. Extrapolated to the full model: "
        f"{both_units(sized(whole).total_bytes)}"
    )


def _way(run: Run) -> Iterator[str]:
    """How the caches were filled, if not every token of every layer went through attention."""
    others = "other layers were filled with copies of a few tokens' rows"
    if run.under:
        yield run.under.words()
    elif not run.attends_prompt:
        yield (
            f"in the first layer of each kind the last {plural(run.decode_steps, 'token')} went through attention, "
            f"over the {count(run.prompt)} before them; {others}"
        )
    elif run.asked.model.num_layers > len(run.asked.model.groups):
        yield f"in the first layer of each kind every token went through attention; {others}"
