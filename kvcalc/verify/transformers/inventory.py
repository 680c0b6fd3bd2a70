"""Which tensors a checkpoint has: those of transformers' own class for a config, built on the meta device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from kvcalc.errors import NotApplicableError
from kvcalc.model.checkpoint import Inventory, WeightTensor
from kvcalc.units import shown
from kvcalc.verify.transformers.classes import VERSION, build, class_name, config_of
from kvcalc.verify.transformers.no_values import NoValues

_MESSAGE_CHARACTERS = 160
"""Longest part of a library's message that is shown."""
_PREFIX = re.compile(r"(model\.|language_model\.|decoder\.|transformer\.|backbone\.|rwkv\.|cpmant\.)+")
"""What stands before the names of a decoder's tensors, in one class or another."""
_TEXT = re.compile(r"(model\.)?language_model\.")
"""Prefixes of the text model's names inside a class with towers."""
_STACKS = {"layers", "layer", "h", "block", "blocks"}
"""Names of the list of a decoder's layers."""
_STATES = re.compile(
    r"(Mixer|MambaLayer|DeltaNet|DeltaAttention|ShortConv(olution)?|RecurrentBlock|xLSTMLayer|RwkvSelfAttention|"
    r"LightningAttention|LinearAttention)$"
)
_ATTENTION = re.compile(r"(?!.*Layer(Self|Cross)Attention)(.*Attention|.*MLA)$")
_ROUTER = re.compile(r"Router$|Gate$")
_EXPERTS = re.compile(r"Experts$|ExpertMlp$|DbrxExpertGLU$")
_SHARED = re.compile(r"shared_?experts?(_gate)?|shared_mlp|share_expert")
_SPARSE = re.compile(r"MoE|Moe(?!.*Layer)|Sparse")
_NORM = re.compile(r"Norm")
_STREAM = re.compile(r"HyperConnection|HyperHead|AltUp|ResidualScaling")
"""Modules that mix or scale the residual stream, and that every rank holds whole as it holds a norm."""
_PICKED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k")
"""Fields that say how many experts a token passes."""
_SAFETENSORS = {torch.int64: "I64", torch.int32: "I32", torch.bool: "BOOL"}
"""Formats other than the checkpoint's, as safetensors writes them."""


def inventory(values: Mapping[str, object]) -> Inventory:
    """The tensors of the class that a config.json names: all parameters, and the buffers that are saved with them.

    A tensor that several layers have in one shape is one row. A fused tensor is as the class has it, and what the
    class keeps in a list, expert by expert, has the list as its first dimension. A tensor tied to another names it.
    Rows of a tower number the tower's own layers. Layers of multi-token prediction are in no class, and not in here.
    Raises NotApplicableError if transformers has no such class or cannot build it from this config.
    """
    name = class_name(values.get("model_type"), values.get("architectures"))
    if name is None:
        raise NotApplicableError(
            f"transformers {VERSION} has no class for model_type {shown(values.get('model_type'))}",
            help="pass the size of the checkpoint with --weights",
        )
    try:
        with torch.no_grad(), NoValues():
            model = build(name, config_of(values), device="meta", as_loaded=False)
    except Exception as error:  # whatever the library raises at a field
        first_line = next(iter(str(error).strip().splitlines()), "")
        message = f"{type(error).__name__}: {first_line}"[:_MESSAGE_CHARACTERS]
        raise NotApplicableError(
            f"transformers {VERSION} cannot build {name}: {message}",
            help="pass the complete config.json, as published",
        ) from error
    rows = tuple(_rows(model))
    routed = _experts_per_token(model.config) if any(row.part == "experts" for row in rows) else 0
    return Inventory(rows, f"{name} of transformers {VERSION}", routed)


def _experts_per_token(config: PreTrainedConfig) -> int:
    """How many of its experts a router picks, by the field that says so; 0 if none does."""
    text = config.get_text_config(decoder=True)
    sections = (text, getattr(text, "ffn_config", None))
    numbers = (getattr(section, field, None) for section in sections for field in _PICKED)
    return next((number for number in numbers if type(number) is int), 0)


class _Tensor(NamedTuple):
    """A tensor of a class. layer: its index in its stack. member: its index in a list, as of experts."""

    part: str
    name: str
    tensor: Tensor
    layer: int | None
    member: int | None = None


def _rows(model: PreTrainedModel) -> Iterator[WeightTensor]:
    """Tensors of a model, those of equal layers in one row, in the order in which the class has them."""
    first_name: dict[int, str] = {}
    layers: dict[WeightTensor, list[int]] = {}
    lists: dict[WeightTensor, set[int]] = {}
    for part, name, tensor, layer, member in _tensors(model):
        shares = first_name.setdefault(id(tensor), name) if id(tensor) in first_name else ""
        first_name.setdefault(id(tensor), name)
        dtype = _SAFETENSORS.get(tensor.dtype, "")
        row = WeightTensor(part, name, tuple(tensor.shape) or (1,), dtype=dtype, shares=shares)
        of_row = layers.setdefault(row, [])
        if layer is not None and (not of_row or of_row[-1] != layer):
            of_row.append(layer)
        if member is not None:
            lists.setdefault(row, set()).add(member)
    for row, numbers in layers.items():
        shape = (len(lists[row]), *row.shape) if row in lists else row.shape
        yield row._replace(shape=shape, layers=tuple(numbers))


def _tensors(model: PreTrainedModel) -> Iterator[_Tensor]:
    state = model.state_dict(keep_vars=True)
    modules = dict(model.named_modules())
    towers = any(_TEXT.match(name) for name in state)
    logits = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    heads = {name for name, module in modules.items() if module is logits}
    for name, tensor in state.items():
        if name.rpartition(".")[0] in heads or name == "final_logits_bias":
            yield _Tensor("head", name, tensor, None)
        elif towers and not _TEXT.match(name):
            yield _numbered("vision", name.removeprefix("model."), tensor)
        elif model.config.is_encoder_decoder and ".encoder." in f".{name}":
            yield _numbered("encoder", name.removeprefix("model."), tensor)
        else:
            yield _of_decoder(name, tensor, modules)


def _numbered(part: str, name: str, tensor: Tensor) -> _Tensor:
    """A tensor of a tower or an encoder: the first number in its name is its layer."""
    steps = name.split(".")
    number = next((place for place, step in enumerate(steps) if step.isdecimal()), None)
    if number is None:
        return _Tensor(part, name, tensor, None)
    return _Tensor(part, ".".join(steps[:number] + steps[number + 1 :]), tensor, int(steps[number]))


def _of_decoder(name: str, tensor: Tensor, modules: Mapping[str, nn.Module]) -> _Tensor:
    """A tensor of the model that generates text."""
    steps = name.split(".")
    classes = [type(modules.get(".".join(steps[: end + 1]))).__name__ for end in range(len(steps) - 1)]
    chain = list(zip(steps, classes, strict=False))
    stack = next((end for end, (a, b) in enumerate(pairwise(steps)) if a in _STACKS and b.isdecimal()), None)
    if stack is None:
        own = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
        listed = [place for place, step in enumerate(own.split(".")) if step.isdecimal()]
        part = "norm" if _is_norm(chain, tensor) else "embedding"
        return _listed(part, own, tensor, None, listed[:1])
    inside = chain[stack + 2 :]
    own_steps = steps[stack + 2 :]
    part = _part(inside, own_steps, tensor)
    listed = [place for place, step in enumerate(own_steps) if step.isdecimal() and part == "experts"]
    return _listed(part, ".".join(own_steps), tensor, int(steps[stack + 1]), listed[:1])


def _listed(part: str, name: str, tensor: Tensor, layer: int | None, places: list[int]) -> _Tensor:
    """A tensor without its number in a list, if it stands in one."""
    if not places:
        return _Tensor(part, name, tensor, layer)
    steps = name.split(".")
    member = int(steps.pop(places[0]))
    return _Tensor(part, ".".join(steps), tensor, layer, member)


def _part(inside: list[tuple[str, str]], steps: list[str], tensor: Tensor) -> str:
    """What a tensor of a layer belongs to, by the names and classes of the modules around it, the outermost first."""
    sparse = False
    for step, kind in inside:
        if part := _part_of_module(step, kind, sparse=sparse):
            return part
        sparse = sparse or bool(_SPARSE.search(kind))
    if sparse and steps[-1].endswith("correction_bias"):
        return "router"
    scales = any(_NORM.search(kind) or _STREAM.search(kind) for _, kind in inside)
    return "norm" if scales or (tensor.dim() <= 1 and len(steps) == 1) else "mlp"


def _part_of_module(step: str, kind: str, *, sparse: bool) -> str:
    """What all tensors of a module belong to, by its name and class; empty if neither says. sparse: of experts."""
    told = {
        "shared experts": _SHARED.fullmatch(step),
        "experts": step == "experts" or _EXPERTS.search(kind),
        "router": _ROUTER.search(kind) or step == "router" or (sparse and step == "gate"),
        "state": _STATES.search(kind),
        "attention": _ATTENTION.match(kind),
    }
    return next((part for part, is_it in told.items() if is_it), "")


def _is_norm(chain: list[tuple[str, str]], tensor: Tensor) -> bool:
    """Whether a tensor of no layer normalises: what else stands there is a table or a projection of one."""
    return any(_NORM.search(kind) or _STREAM.search(kind) for _, kind in chain) or tensor.numel() in tensor.shape
