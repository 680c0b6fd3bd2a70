"""Builds a model's attention, fills its caches, runs decode steps, and counts what the caches took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.report.size import GroupReport
from kvcalc.report.verification import MeasuredTensor, Verification
from kvcalc.sizing import size
from kvcalc.units import both_units, count, plural, positive_int
from kvcalc.verify.modules import module_for
from kvcalc.verify.modules._module import AttentionModule, Cache
from kvcalc.verify.slices import first_layers, free_memory_bytes, largest_slice
from kvcalc.workload import Workload

DEVICES = ("cpu", "cuda", "meta")
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn}
"""Formats that torch stores as they are; packed ones (int4, nvfp4, q8_0 ...) have no tensor of their own."""
HIDDEN_SIZE = 1024
"""Width of the layers' input: the weights depend on it, and no cache does."""
CHUNK_TOKENS = 512
"""Tokens of a prompt that are projected together."""
ATTENDED_TOKENS = 1024
"""Prompts up to this length go through attention; of longer ones the rows are written, and the decode steps attend."""
Progress = Callable[[int, int], None]
"""Called with the layers done and all of them."""


def verify(  # noqa: PLR0913  # what is asked, and how it is run
    model: Model,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str = "bf16",
    device: str | None = None,
    decode_steps: int = 2,
    layers: int | None = None,
    memory_bytes: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Verification:
    """Runs torch modules of `model` until each sequence has `tokens` tokens cached, and counts their caches.

    device: cpu, cuda or meta (shapes alone, of any size); by default cuda if there is one, else cpu.
    decode_steps: how many of the tokens come one by one, through attention. layers: only so many of the model's first
    layers. memory_bytes: what the caches may take; by default most of what is free on the CPU. What does not fit it is
    cut to the largest slice that does, and the notes say to which. The layers of a group share one module's weights;
    each has a cache of its own.
    Raises NotApplicableError for a kind of layer or a format that has no module, InvalidValueError for a bad value.
    """
    workload = Workload.of(tokens, sequences, kv_dtype)
    if workload.kv_dtype.name not in TORCH_DTYPES:
        raise NotApplicableError(
            f"torch has no tensors of {workload.kv_dtype.name}", help=f"verify with {', '.join(TORCH_DTYPES)}"
        )
    device = _device(device)
    asked_tokens = workload.tokens
    asked = model if layers is None else first_layers(model, positive_int(layers, "layers"))
    part, workload = _fitting(asked, workload, device, memory_bytes)
    tokens = workload.tokens
    steps = min(positive_int(decode_steps, "decode_steps"), tokens)
    report = size(part, tokens=tokens, sequences=sequences, kv_dtype=workload.kv_dtype)
    measured: list[MeasuredTensor] = []
    done = 0
    with torch.no_grad():
        for group, predicted in zip(part.groups, report.groups, strict=True):
            module, caches = _new_layers(group, workload, device)
            rows = _rows(module, caches[0], workload)
            for cache in caches:
                if cache is caches[0]:
                    _run(module, cache, rows, workload, steps)
                else:
                    _write(cache, rows, tokens)
                done += 1
                progress(done, part.num_layers)
            measured += _measured(predicted, caches)
    notes = (*_cut(model, part, asked_tokens, workload), *_way(part, tokens, steps))
    return Verification(model.name, tokens, sequences, workload.kv_dtype.name, device, steps, tuple(measured), notes)


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in DEVICES:
        raise InvalidValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}", help="write cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("torch finds no CUDA device", help="leave --device out, or write cpu or meta")
    return device


def _fitting(model: Model, workload: Workload, device: str, memory_bytes: int | None) -> tuple[Model, Workload]:
    """The slice that is run: all of it on meta, which takes no memory."""
    if device == "meta":
        return model, workload
    if memory_bytes is None:
        memory_bytes = torch.cuda.mem_get_info()[0] if device == "cuda" else free_memory_bytes()
    return largest_slice(model, workload, memory_bytes)


def _new_layers(group: LayerGroup, workload: Workload, device: str) -> tuple[AttentionModule, tuple[Cache, ...]]:
    """Module and empty caches of a group. Raises NotApplicableError for layers of several parts."""
    if len(group.parts) > 1:
        raise NotApplicableError(
            f"{group.name} layers are {group.label}: there is no torch module for layers of several parts yet",
            help="`kvcalc size` sizes all kinds",
        )
    stored = TORCH_DTYPES[workload.kv_dtype.name]
    computed = stored if stored.itemsize > 1 else torch.bfloat16  # fp8 is stored, and computed with in bf16
    (facts,) = group.parts
    module = module_for(facts)(facts, HIDDEN_SIZE, dtype=computed, device=device)
    caches = tuple(module.new_cache(workload.sequences, workload.tokens, stored) for _ in group.layers)
    return module, caches


def _rows(module: AttentionModule, cache: Cache, workload: Workload) -> Mapping[str, Tensor]:
    """What a layer caches of a chunk of random input, in the cache's format: real rows to fill long caches with."""
    number = min(CHUNK_TOKENS, workload.tokens)
    projected = module.project(_hidden(module, workload.sequences, number), torch.arange(number, device=module.device))
    return {name: rows.to(cache[name].data.dtype) for name, rows in projected.items()}


def _run(module: AttentionModule, cache: Cache, rows: Mapping[str, Tensor], workload: Workload, steps: int) -> None:
    """A prompt in chunks, through attention where it is short enough, then `steps` tokens one by one through it."""
    prompt = workload.tokens - steps
    if prompt > ATTENDED_TOKENS:
        _write(cache, rows, prompt)
    else:
        for start in range(0, prompt, CHUNK_TOKENS):
            module(_hidden(module, workload.sequences, min(CHUNK_TOKENS, prompt - start)), cache)
    for _ in range(steps):
        module(_hidden(module, workload.sequences, 1), cache)


def _write(cache: Cache, rows: Mapping[str, Tensor], tokens: int) -> None:
    """Fills a cache with rows, again and again, until it has so many tokens."""
    for name, slots in cache.items():
        for start in range(0, tokens, CHUNK_TOKENS):
            slots.append(rows[name][..., : tokens - start, :])


def _hidden(module: AttentionModule, sequences: int, tokens: int) -> Tensor:
    """Random input (sequences, tokens, hidden_size)."""
    return torch.randn(sequences, tokens, module.hidden_size, dtype=module.dtype, device=module.device)


def _measured(predicted: GroupReport, caches: tuple[Cache, ...]) -> Iterator[MeasuredTensor]:
    """Bytes of each tensor of a group, over its layers; those that only one side has count as nothing on the other."""
    expected = {tensor.name: tensor for tensor in predicted.tensors}
    for name in dict.fromkeys([*expected, *caches[0]]):
        held = [cache[name].data for cache in caches if name in cache]
        yield MeasuredTensor(
            group=f"{predicted.num_layers} {predicted.name}",
            name=name,
            shape=tuple(held[0].shape) if held else (),
            dtype=str(held[0].dtype).removeprefix("torch.") if held else "",
            predicted_bytes=expected[name].bytes if name in expected else 0,
            logical_bytes=sum(tensor.numel() * tensor.element_size() for tensor in held),
            storage_bytes=sum(_storages(held).values()),
        )


def _storages(tensors: list[Tensor]) -> Mapping[int, int]:
    """Bytes of the distinct storages behind tensors."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}


def _cut(model: Model, part: Model, tokens: int, workload: Workload) -> Iterator[str]:
    """What was run in place of the whole, and what the whole is predicted to take."""
    layers = f"{count(part.num_layers)} of {plural(model.num_layers, 'layer')}"
    length = f"{count(workload.tokens)} of {plural(tokens, 'token')}"
    if part.num_layers == model.num_layers and workload.tokens == tokens:
        return
    whole = size(model, tokens=tokens, sequences=workload.sequences, kv_dtype=workload.kv_dtype).total_bytes
    yield (
        f"a slice was run: {layers}, {length}; the bytes above are the slice's. By the same rule the whole takes "
        f"{both_units(whole)}"
    )


def _way(part: Model, tokens: int, steps: int) -> Iterator[str]:
    """How the caches were filled, where not every token of every layer went through attention."""
    if tokens - steps > ATTENDED_TOKENS:
        yield (
            f"in the first layer of each kind the last {plural(steps, 'token')} went through attention, over the "
            f"{count(tokens - steps)} before them; the other layers were filled with the rows of a projected chunk"
        )
    elif part.num_layers > len(part.groups):
        yield (
            "in the first layer of each kind every token went through attention; the other layers were filled with the "
            "rows of a projected chunk"
        )
