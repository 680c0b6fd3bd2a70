"""From a user's name to the model: one way for every command, plan and call.

In this order; the answer names the choice unless it is obvious:

    a path             file, folder, GGUF, or - for standard input
    a preset           or its alias
    a repository       Qwen/Qwen3-8B, listed in presets/repositories.tsv (`table`)
    an Ollama tag      qwen3:8b, listed there too
    a model on disk    the caches of Hugging Face, Ollama and LM Studio (`stores`)
    a repository       that is not listed, if its name is unambiguous (`rule`)

Anything else is refused with the nearest names: a model is never guessed.

With `hub` a name that is not a path is a repository (`reference`), for a preset's name the preset's own; nothing else
is looked up.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from kvcalc.errors import NotApplicableError, UnknownNameError
from kvcalc.errors.foreign import MOST_NAME, name_shown
from kvcalc.io.files import exists, is_file
from kvcalc.io.presets import find_preset, preset_aliases, preset_names, preset_source
from kvcalc.io.resolve import table
from kvcalc.io.resolve.reference import Reference, reference_of
from kvcalc.io.resolve.rule import LONGEST, OLLAMA, Core, core_of, format_of
from kvcalc.io.resolve.stores import Stored, stored
from kvcalc.io.sources import readable
from kvcalc.model import Model

STDIN = "-"
TEXT_SUFFIXES = (".yaml", ".yml", ".json")
FILE_SUFFIXES = (*TEXT_SUFFIXES, ".gguf")
_OF_A_TAG = re.compile(r"(?:-(?:instruct|chat|it|text|base|qat|fp16|bf16|f16|mxfp4|q\d+(?:_\w+)?))+$")
"""Suffixes of an Ollama tag that do not change the cache: tuning and weight format."""
_FP8 = "fp8"
_HOW = "--hub for the Hugging Face Hub, --model path/to/config.json, or its download folder"
_HOW_ELSE = f"Otherwise read its config.json: {_HOW}"
_REPOSITORIES = "write ORGANISATION/NAME, optionally with @revision, :Q4_K_M or /file.gguf; a path as ./path"
_OTHER_TAG = "; another tag: pass its GGUF file, or its repository with --hub"
_GGUF = "gguf"
"""Format of repositories with several quantisations."""
_MAY_DECLARE = (
    "its checkpoint may declare an FP8 cache, like related ones, and its config was not read; if so, pass --dtype fp8"
)


@dataclass(frozen=True)
class Resolved:
    """A named model. preset, path or reference: what to read; name: for a model read from a path.

    words: note on the match; empty if it was written so. as_published: whether the preset's published weights are this
    name's; repository, weights: another name of its checkpoint, and its format. context: tokens, if not the preset's;
    -1 if unknown.
    """

    preset: str = ""
    path: Path | None = None
    reference: Reference | None = None
    name: str = ""
    words: tuple[str, ...] = ()
    as_published: bool = True
    repository: str = ""
    weights: str = ""
    context: int | None = None
    declares_fp8: bool = False

    def applied_to(self, model: Model) -> Model:
        """The loaded model with the name's context, format and notes."""
        changed = replace(model, name=self.name or model.name, notes=(*self.words, *model.notes))
        if self.context is not None:
            changed = replace(changed, max_model_len=self.context if self.context > 0 else None)
        if not self.as_published:
            own = changed.checkpoint._replace(repository=self.repository, format=self.weights)
            changed = replace(changed, weights_bytes=None, weights_source="", checkpoint=own)
        if self.declares_fp8:
            changed = replace(changed, published=model.published._replace(kv_dtype=_FP8))
        return changed


def resolve(name: str, folder: Path = Path(), *, hub: bool = False) -> Resolved:
    """The model of `name`; paths are relative to `folder`. hub: read a repository from the Hub.

    Raises UnknownNameError with the nearest names, NotApplicableError for a name close to another model's.
    """
    path = folder / name
    if name == STDIN:
        return Resolved(path=Path(STDIN))
    return _on_hub(name, path) if hub else _known(name, path)


def _known(name: str, path: Path) -> Resolved:
    """The first source that has the name, except the Hub."""
    reference = None if "/" not in name or exists(path) or name.endswith(FILE_SUFFIXES) else reference_of(name)
    if reference is not None and reference == Reference(reference.id) and reference.id != name:
        return _known(reference.id, path)  # written as a URL
    if is_path(name) and reference is None:
        return Resolved(path=path)
    if name and not is_path(name) and readable(path) is not None:
        return Resolved(path=path, words=(f"read from the folder {name_shown(name)}",))
    if find_preset(name) is not None:
        return Resolved(preset=name)
    for found in (_listed(name), _on_disk(name), _quantised(reference)):
        if found is not None:
            return found
    if len(name) <= LONGEST and (found := _by_rule(name)) is not None:
        return found
    raise _unknown(name)


def _on_hub(name: str, path: Path) -> Resolved:
    """A repository; a path if the name cannot be anything else, or names a file. Raises UnknownNameError."""
    if name.startswith((".", "/", "~")) or name.endswith(TEXT_SUFFIXES) or is_file(path):
        return Resolved(path=path)
    if (preset := find_preset(name)) is not None and (source := reference_of(preset_source(preset.stem))) is not None:
        return Resolved(reference=source, words=(f"{name_shown(name)} stands for {source.id}",))
    if preset is not None:
        raise UnknownNameError(
            f"the preset {name_shown(name)} does not come from a Hub repository", help="remove --hub"
        )
    return repository_named(name)


def repository_named(name: str, revision: str = "") -> Resolved:
    """The Hub repository of a name, at a revision. Raises UnknownNameError."""
    if (reference := reference_of(f"{name}@{revision}" if revision else name)) is not None:
        return Resolved(reference=reference)
    raise UnknownNameError(f"{name_shown(name)} does not have the form of a Hub repository", help=_REPOSITORIES)


def is_path(text: str) -> bool:
    """Whether a string has the form of a path: with a separator or a model file's suffix."""
    return "/" in text or os.sep in text or text.endswith(FILE_SUFFIXES) or text in (".", "..")


def _quantised(reference: Reference | None) -> Resolved | None:
    """A GGUF file by its quantisation, in a repository known by the rest of its name."""
    if reference is None or not reference.quantisation:
        return None
    found = _listed(reference.id) or _by_rule(reference.id)
    if found is None or not found.preset or found.weights != _GGUF:
        return None
    return replace(found, as_published=False, weights=reference.quantisation.lower())


def _listed(name: str) -> Resolved | None:
    """A repository or a tag of the table. Raises NotApplicableError for one that must not be read as a preset."""
    row = table.row_of(name) or (_tag_row(name) if ":" in name and "/" not in name else None)
    if row is None:
        return None
    if not row.preset:
        raise NotApplicableError(
            f"{name_shown(name)} does not match a preset: {row.remark}", help=f"read its config.json: {_HOW}"
        )
    weights = row.weights or (OLLAMA if row.name.startswith(table.TAG) else "")
    return Resolved(
        preset=row.preset,
        words=tuple(_words(name, row)),
        as_published=not weights or _is_own(row),
        repository=row.name,
        weights=format_of(name, weights),
        context=row.context,
        declares_fp8=row.declares_fp8,
    )


def _is_own(row: table.Row) -> bool:
    """Whether it is the repository that the preset itself was read from."""
    return row.name.lower() == preset_source(row.preset).lower()


def _words(name: str, row: table.Row) -> list[str]:
    """Notes on the resolution, and on what is unknown."""
    weights = f", with weights in another format ({row.weights})" if row.weights else ""
    found = [] if _is_own(row) else [f"{name_shown(name)} has the same cache as {row.preset}{weights}"]
    if row.context is not None:
        length = f"{row.context:,} tokens" if row.context > 0 else "different and unknown"
        found.append(f"the context of {name_shown(name)} is {length}")
    if row.declares_fp8:
        found.append("its checkpoint declares an FP8 cache, which vLLM and SGLang follow")
    if row.may_declare_fp8:
        found.append(_MAY_DECLARE)
    if "vision" in row.remark:
        found.append("image tokens count as tokens")
    return found


def _tag_row(name: str) -> table.Row | None:
    """Row of an Ollama tag, possibly with tuning and quantisation: qwen3:8b-instruct-q4_K_M."""
    return table.tag_row(name) or table.tag_row(_OF_A_TAG.sub("", name.lower()))


def _on_disk(name: str) -> Resolved | None:
    found: Stored | None = stored(name)
    if found is None:
        return None
    return Resolved(path=found.path, name=found.name, words=(f"read from {found.store}",))


def _by_rule(name: str) -> Resolved | None:
    """A preset whose core name is that of a repository, or of a listed repository with weights as published."""
    core = core_of(name)
    presets = {preset for preset, its in _cores() if its == core.name}
    like = [] if presets else [row for row in table.published() if core_of(row.name).name == core.name]
    presets |= {row.preset for row in like}
    contexts = {row.context for row in like}
    if len(presets) != 1 or not all(presets) or len(contexts) > 1:
        return None
    (preset,) = presets
    return Resolved(
        preset=preset,
        words=tuple(_words_of_rule(name, preset, core)),
        as_published=not core.weights,
        repository=name,
        weights=format_of(name, core.weights),
        context=core.context or next(iter(contexts), None),
    )


def _words_of_rule(name: str, preset: str, core: Core) -> list[str]:
    changes = f": -{core.weights} changes the weights" if core.weights else ""
    found = [f"{name_shown(name)} is sized as {preset}, matched by name{changes}"]
    if core.context is not None:
        found.append(f"its name gives a context of {core.context:,} tokens")
    organisation = name.partition("/")[0].lower()
    if core.weights == "fp8-kv" or (organisation == "nvidia" and core.weights in ("fp8", "nvfp4", "fp4")):
        found.append(_MAY_DECLARE)
    return found


def _cores() -> list[tuple[str, str]]:
    """Cores of each preset: of its own repository, and its own name."""
    return [
        (preset, core_of(name).name) for preset in preset_names() for name in (preset, preset_source(preset)) if name
    ]


def _unknown(name: str) -> UnknownNameError:
    """The error for an unknown name, with up to three near ones."""
    family = name.lower().removeprefix("ollama:").partition(":")[0]
    if "/" not in name and (tags := table.tags_of(family)):
        return UnknownNameError(
            f"{name_shown(name)} is not a known tag of {family}",
            help=f"choose a size: {', '.join(tags)}{_OTHER_TAG if ':' in name else ''}",
        )
    if not ("/" in name and reference_of(name)):
        known = [*preset_names(), *preset_aliases()]
        return UnknownNameError.among("model", name, known, see="`kvcalc presets list` shows all of them")
    near = UnknownNameError.among("preset", core_of(name[:MOST_NAME]).name, preset_names(), see=_HOW_ELSE).help
    near = near.removeprefix("Otherwise ")
    return UnknownNameError(
        f"{name_shown(name)} is not a known repository, and its name alone does not determine its cache",
        help=near,
    )
