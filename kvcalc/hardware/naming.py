"""The device of a name, as written by people, drivers, torch, nvidia-smi and Kubernetes.

Case, blanks, dashes, underscores and a leading maker's name are ignored. The rest is a device's name, an alias of it,
or a model with any of its qualifiers: `a100` + `sxm4` + `80gb`. A name that fits two sizes is refused as ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.errors.foreign import listed, quoted
from kvcalc.hardware.catalogue import Entry, Naming, entry, gpu_of, namings
from kvcalc.hardware.gpu import MIG_NAME, NVIDIA, Gpu
from kvcalc.units import GB, both_units, gigabytes

HELP = "`kvcalc gpus` lists them; for unlisted devices pass the memory, such as 64GB"
_TRADEMARKS = re.compile(r"\((?:r|tm)\)")
_SEPARATORS = re.compile(r"[\s_()+-]+")
_MAKERS = re.compile(
    r"(?:nvidia|amd|intel|google|habana(?:labs)?|geforce|tesla|instinct|radeon|jetson|rtx|rx"
    r"|arc(?=[ab]\d|pro)|apple(?=m\d)|tpu(?=v\d))(?=.)"
)
_SHARED = re.compile(r"[\s_-]shared$", re.IGNORECASE)
"""Kubernetes label of a time-sliced GPU: each pod may use all of its memory."""
_MIG = re.compile(r"(?:[\s_-]mig[\s_-]|:(?:mig-)?)(\d+)g\.(\d+)gb(?:[+.]me)?$", re.IGNORECASE)
"""A slice of a GPU by its profile: a seventh's multiple, and gigabytes."""
_SEVENTHS = (1, 2, 3, 4, 7)
"""Compute slices of a MIG profile, as NVIDIA's MIG User Guide has them for each GPU."""
_SLICE_ALONE = re.compile(r"(?:nvidia\.com/)?(?:mig[\s_-])?(\d+g\.\d+gb)(?:[+.]me)?", re.IGNORECASE)
"""A slice as named by Kubernetes, without the GPU."""
_CAPABILITY = re.compile(r"sm(\d{1,2})(\d)")
"""Any NVIDIA GPU by what its cores can do, as compilers write it: sm_90."""
_ANY_OF_IT = "any GPU of that compute capability"
_SIZE = re.compile(r"(\d+g)b")
_ANY_SIZE = re.compile(r"\d+g(?:i?b)?")
_SAME_PERCENT = 3
"""Difference up to which two devices count as the same size."""
_SEVERAL = "comes with several memory sizes"
_MOST_WRITTEN = 5
"""Candidates up to which an error writes them out."""


def device(name: str) -> Gpu:
    """The device of a name, with memory 0 if the name does not determine it.

    Raises UnknownNameError with the nearest, InvalidValueError with the candidates.
    """
    whole = _SHARED.sub("", name)
    if (alone := _SLICE_ALONE.fullmatch(whole)) is not None:
        raise InvalidValueError(
            f"{quoted(name)} is a slice of an unnamed GPU", help=f"name it: h100-80gb-mig-{alone[1].lower()}"
        )
    if "+" in whole and not whole.endswith("+me"):
        raise InvalidValueError(
            f"{quoted(name)} names mixed GPUs: engines that divide a model among ranks give each as much as the "
            "smallest holds, and llama.cpp splits it by the free memory at start-up",
            help="use the GPU with the least memory for all of them: --gpu 3090 --gpus 2",
        )
    profile = _MIG.search(whole)
    if profile:
        return _slice(device(whole[: profile.start()]), profile[1], profile[2])
    compact = compacted(whole)
    capability = _CAPABILITY.fullmatch(compact)
    if capability:
        number = int(capability[1]), int(capability[2])
        said = f"sm_{capability[1]}{capability[2]}"
        return Gpu(said, 0, "", number, vendor=NVIDIA, memory_from="", note=_ANY_OF_IT, written=said)
    return _named(name, compact)


def compacted(name: str) -> str:
    """A name without what does not count: `NVIDIA GeForce RTX 4090` is `4090`."""
    text = _SEPARATORS.sub("", _TRADEMARKS.sub("", name.lower()))
    while match := _MAKERS.match(text):
        text = text[match.end() :]
    return text


def spellings() -> list[str]:
    """Names and aliases of devices, as people may type them."""
    return [each for naming in namings() if not naming.candidates for each in (naming.name, *naming.aliases)]


def asked_back() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each ambiguous name, with the reason and the candidates; chips of several sizes together."""
    of_model: dict[str, list[str]] = {}
    chips = [each.name for each in namings() if each.memory_of]
    yield ", ".join(chips), _SEVERAL, (f"{chips[0]}-16gb", "...")
    for naming in namings():
        facts = entry(naming.name)
        if naming.candidates or "asks" in facts:
            yield naming.name, facts.get("asks", ""), naming.candidates
        elif naming.model != naming.name:
            of_model.setdefault(naming.model, []).append(naming.name)
    for model, names in of_model.items():
        sizes = [entry(name).get("memory_bytes", 0) for name in names]
        if not _of_one_size(sizes) and model not in spellings():
            yield model, _SEVERAL, tuple(names)


def _named(name: str, compact: str) -> Gpu:
    fitting = [each for each in namings() if compact in _exact(each)] or list(_answering_to(compact))
    if not fitting:
        raise _unknown(name, compact)
    first, *others = fitting
    if first.candidates:
        raise _asked(name, first.candidates, entry(first.name).get("asks", ""))
    if first.memory_of:
        return _chip(name, compact, first)
    facts = [entry(each.name) for each in fitting]
    if others and not _of_one_size([each.get("memory_bytes", 0) for each in facts]):
        raise _asked(name, [each.name for each in fitting])
    return gpu_of(first.name, facts[0])


@cache
def _exact(naming: Naming) -> frozenset[str]:
    return frozenset(map(compacted, (naming.name, *naming.aliases)))


def _answering_to(compact: str) -> Iterator[Naming]:
    """Entries of a model whose qualifiers the rest of the name does not contradict."""
    for naming in namings():
        model = compacted(naming.model)
        if compact.startswith(model) and not naming.candidates:
            words = "|".join(_SIZE.sub(r"\1(?:i?b)?", re.escape(compacted(each))) for each in _qualifiers(naming))
            if re.fullmatch(f"(?:{words})*", compact[len(model) :]):
                yield naming


def _qualifiers(naming: Naming) -> Sequence[str]:
    """Its own, or those of a chip's sizes."""
    if not naming.memory_of:
        return naming.qualifiers
    return [word for each in _sizes_of(naming) for word in each.qualifiers]


def _sizes_of(chip: Naming) -> list[Naming]:
    return [each for each in namings() if each.model == chip.memory_of]


def _chip(name: str, compact: str, chip: Naming) -> Gpu:
    """A chip that comes with several sizes of memory, one of which its name must say."""
    for size in _sizes_of(chip):
        (word,) = size.qualifiers
        own = f"{chip.name}-{word}"
        if re.fullmatch(_SIZE.sub(r"\1(?:i?b)?", word), compact.removeprefix(compacted(chip.name))):
            merged: Entry = {**entry(size.name), **entry(chip.name)}
            return gpu_of(own, merged)
    raise _asked(name, [f"{chip.name}-{size.qualifiers[0]}" for size in _sizes_of(chip)], f"it {_SEVERAL}")


def _slice(whole: Gpu, sevenths: str, size: str) -> Gpu:
    """A MIG slice: memory as the name of its profile has it, of which its driver reports somewhat more."""
    own = f"{whole.name}-mig-{sevenths}g.{size}gb"
    if int(sevenths) not in _SEVENTHS or int(size) * GB > whole.memory_bytes:
        raise InvalidValueError(
            f"{quoted(own)} is not a slice of {whole.name}: MIG has slices of "
            f"{listed([str(n) for n in _SEVENTHS], 5)} sevenths, and none with more memory than the GPU "
            f"({both_units(whole.memory_bytes)})",
            field="gpu",
            help="`nvidia-smi mig -lgip` lists them, for example h100-80gb-mig-3g.40gb",
        )
    return whole.with_memory(int(size) * GB, MIG_NAME, f"profile {sevenths}g.{size}gb", own)._replace(name=own)


def _of_one_size(sizes_bytes: Sequence[int]) -> bool:
    return (max(sizes_bytes) - min(sizes_bytes)) * 100 <= max(sizes_bytes) * _SAME_PERCENT  # per cent


def _asked(name: str, candidates: Iterable[str], why: str = "") -> InvalidValueError:
    """The error that asks which of several is meant."""
    words = _with_sizes(candidates)
    choice = " or ".join(words) if len(words) <= _MOST_WRITTEN else f"one of {listed(words, len(words))}"
    return InvalidValueError(
        f"{quoted(name)} is ambiguous{f': {why}' if why else ''}", help=f"write {choice}", field="gpu"
    )


def _unknown(name: str, compact: str) -> KvcalcError:
    """The error for a name that nothing answers to, or for a size in which a device is not known."""
    kin = [
        each
        for each in namings()
        for model in [compacted(each.model)]
        if not each.candidates and compact.startswith(model) and _ANY_SIZE.fullmatch(compact[len(model) :])
    ]
    if not kin:
        return UnknownNameError.among("GPU", name, spellings(), see=HELP)
    return InvalidValueError(
        f"{quoted(name)} has a memory size that is unknown for that GPU",
        help=f"write {' or '.join(_with_sizes(each.name for each in kin))}, or pass its memory: {kin[0].name}@48GB",
        field="gpu",
    )


def _with_sizes(names: Iterable[str]) -> list[str]:
    known = {each.name for each in namings()}
    facts = [(name, entry(name) if name in known else {}) for name in names]
    return [f"{name} ({gigabytes(each['memory_bytes'])})" if "memory_bytes" in each else name for name, each in facts]
