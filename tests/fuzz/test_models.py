"""Spoiled models: whatever a file says, the end is a number that was understood or a KvcalcError, and it comes soon.

`pytest tests/fuzz/test_models.py --hypothesis-profile=long` tries 240,000 of them. KVCALC_CONFIGS=FOLDER adds the config.json
files of a folder to the measured and the shipped models that are spoiled.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gzip
import json
import os
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.hardware import presets_folder
from kvcalc.io.presets import preset_names

Keys = tuple[str, ...]
SHARDS = 12
"""Parts of the models, so that several processes share them."""
MOST_SECONDS = 1
NUMBERS = (0, -1, 1, 2, 61, 1.5, float("nan"), float("inf"), 10**400, 10**13, 2**63, 10**5)
OTHERS = (None, True, False, "61", "", "llama", "x" * 100, b"x", ("a",), {}, {"a": 1}, {"full": {}})
LISTS = ([], [1], [None], ["full_attention"], ["full_attention"] * 200, [[1, 2]], [{}], [0.5, "x"])
WRONG = {  # for a value of this type: what nobody can mean by it
    int: ("61", [], ["x"], {"a": 1}, 1.5, float("nan"), float("inf"), -1, 10**400, b"x"),
    str: (61, ["x"], {"a": 1}, 1.5, True),
    list: ("x", 61, {"a": 1}, True),
    bool: ("yes", 61, ["x"], {"a": 1}),
}
STRANGE_ITEMS = ("x", None, -1, 1.5, {"a": 1}, [], float("nan"))
LETTERS = "abcdefghijklmnopqrstuvwxyz_0123456789"


class Change(NamedTuple):
    """One field spoiled. harmful: nobody can have meant it, so that a number must not follow it in silence."""

    path: Keys
    value: Any = None
    rename: str = ""
    remove: bool = False
    harmful: bool = False


@functools.cache
def models() -> list[dict]:
    """Presets, the configs of measured models, and those of the folder that KVCALC_CONFIGS names."""
    found = [yaml.safe_load((presets_folder() / f"{name}.yaml").read_text()) for name in preset_names()]
    with gzip.open(Path(__file__).parents[1] / "data" / "transformers.jsonl.gz", "rt") as lines:
        found += [json.loads(line)["config"] for line in lines]
    folder = os.environ.get("KVCALC_CONFIGS")
    texts = [path.read_text() for path in sorted(Path(folder).glob("*.json"))] if folder else []
    parsed = [json.loads(text) for text in texts]
    return found + [config for config in parsed if isinstance(config, dict) and "model_type" in config]


@functools.cache
def field_names() -> list[str]:
    return sorted({path[-1] for index in range(len(models())) for path in paths(index)})


@functools.cache
def paths(index: int) -> list[Keys]:
    """Every field of a model, those of its sections too."""

    def inside(values: dict, path: Keys) -> list[Keys]:
        return [
            found
            for key, value in values.items()
            for found in ((*path, key), *(inside(value, (*path, key)) if isinstance(value, dict) else ()))
        ]

    return inside(models()[index], ())


def at(model: dict, path: Keys) -> Any:
    return functools.reduce(lambda values, key: values[key], path, model)


def change(random: Random, index: int) -> Change:
    """Spoils one field of a model."""
    path = random.choice(paths(index))
    value = at(models()[index], path)
    kind = random.choice(["wrong", "misspelt", "any", "removed", "added", "item"])
    if kind == "wrong" and type(value) in WRONG:
        return Change(path, random.choice(WRONG[type(value)]), harmful=True)
    if kind == "item" and isinstance(value, list) and value:
        place = random.randrange(len(value))
        return Change(path, [*value[:place], random.choice(STRANGE_ITEMS), *value[place + 1 :]], harmful=True)
    if kind == "misspelt":
        letter, place = random.choice(LETTERS), random.randint(1, len(path[-1]))
        return Change(path, rename=path[-1][:place] + letter + path[-1][place:], harmful=True)
    if kind == "removed":
        return Change(path, remove=True)
    name = random.choice(field_names()) if kind == "added" else path[-1]
    return Change((*path[:-1], name), random.choice((*NUMBERS, *OTHERS, *LISTS)))


def spoiled(model: dict, changed: list[Change]) -> dict:
    model = copy.deepcopy(model)
    for change in changed:
        holder: Any = model
        for key in change.path[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(holder, dict):
            continue
        if change.remove or change.rename:
            value = holder.pop(change.path[-1], None)
        if change.rename:
            holder[change.rename] = value
        elif not change.remove:
            holder[change.path[-1]] = copy.deepcopy(change.value)
    return model


def sized(model: dict) -> tuple[int, str]:
    """Bytes of a model at a length where each kind of layer shows, and what is noted about it."""
    loaded = kvcalc.load(model)
    for engine in ("transformers", "ideal"):
        try:
            report = kvcalc.size(loaded, tokens=5000, engine=engine, engine_settings={"encoder_tokens": 7})
        except kvcalc.NotApplicableError:
            assert engine == "transformers"
    return report.total_bytes, " ".join(report.notes)


@functools.cache
def sound(index: int) -> int | None:
    """Bytes of the unspoiled model; None where it is refused."""
    try:
        return sized(models()[index])[0]
    except kvcalc.KvcalcError:
        return None


def check(index: int, changed: list[Change]) -> None:
    """Asserts that the spoiled model ends in a number that was understood, or in an error that says what is wrong."""
    model = spoiled(models()[index], changed)
    began = time.process_time()
    try:
        total_bytes, notes = sized(model)
    except kvcalc.KvcalcError as error:
        assert str(error)
        assert "Traceback" not in str(error)
    else:
        assert type(total_bytes) is int
        assert total_bytes >= 0
        if len(changed) == 1 and changed[0].harmful and total_bytes != sound(index):
            names = {changed[0].path[-1], changed[0].rename} - {""}
            assert any(name in notes for name in names), (changed, total_bytes, sound(index), notes)
    if time.process_time() - began >= MOST_SECONDS:  # once more: the garbage of others may have come due
        assert cpu_seconds(model) < MOST_SECONDS


def cpu_seconds(model: dict) -> float:
    began = time.process_time()
    with contextlib.suppress(kvcalc.KvcalcError):
        sized(model)
    return time.process_time() - began


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_spoiled_model_ends_in_a_number_or_an_error(shard):
    """Which field is spoiled, and how, follows from one drawn number: that is ten times as fast as drawing each part."""

    @given(st.sampled_from(range(shard, len(models()), SHARDS)), st.integers(1, 3), st.integers(0, 2**64))
    def spoil(index, number_of_changes, seed):
        random = Random(seed)
        check(index, [change(random, index) for _ in range(number_of_changes)])

    spoil()


def test_a_number_in_silence_is_noticed():
    index = next(
        i for i, model in enumerate(models()) if model.get("model_type") == "llama" and "num_hidden_layers" in model
    )
    with pytest.raises(AssertionError):
        check(index, [Change(("num_hidden_layers",), 1, harmful=True)])


@given(st.text(alphabet="ab:,{}[] \n\t#-'\"&*!|>%@`01._~yno\0\x85\ufeff", max_size=80))
def test_any_text_ends_in_a_message(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("fuzz") / "model.yaml"
    file.write_text(text, "utf-8")
    try:
        kvcalc.load(file)
    except kvcalc.KvcalcError as error:
        assert str(file) in str(error)
