"""Whatever comes in by a door ends in an answer or in a message, soon, and prints no character that acts.

`pytest tests/fuzz --hypothesis-profile=long --junitxml=FILE` tries 1,000,000 inputs, and counts what each door took.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from random import Random

import pytest
from doors import DOORS, ROOT, Door
from hypothesis import given
from hypothesis import strategies as st
from strict_readers import assert_inert

import kvcalc

SHARDS = dict.fromkeys(DOORS, 3) | {"plans": 4, "command lines": 4}
"""Parts of a door's inputs, so that several processes share them; with the twelve of `test_models.py` they are 53."""
MOST_SECONDS = 1


def seconds(door: Door, seed: int, folder, ends: Counter) -> float:
    """Processor time that one input takes. Raises what no door may raise."""
    random = Random(seed)
    seeds = door.seeds()
    spoiled = door.spoil(random, random.choice(seeds), seeds)
    began = time.process_time()
    try:
        door.enter(spoiled, folder, random)
    except kvcalc.KvcalcError as error:
        assert str(error)
        assert_inert(str(error))
        ends["refused"] += 1
    else:
        ends["answered"] += 1
    return time.process_time() - began


@pytest.mark.parametrize(
    ("name", "shard"), [(name, shard) for name, shards in SHARDS.items() for shard in range(shards)]
)
def test_a_spoiled_input_ends_in_an_answer_or_a_message(name, shard, tmp_path, monkeypatch, record_property):
    """What is spoiled, and how, follows from one drawn number: the falsifying example is a number to repeat."""
    monkeypatch.chdir(ROOT)
    ends: Counter = Counter()

    @given(st.integers(0, 2**64))
    def spoil(seed):
        seed = seed * SHARDS[name] + shard
        if (
            seconds(DOORS[name], seed, tmp_path, ends) >= MOST_SECONDS
        ):  # once more: the garbage of others may have come due
            assert seconds(DOORS[name], seed, tmp_path, Counter()) < MOST_SECONDS

    spoil()
    for end, count in ends.items():
        record_property(f"{name}: {end}", count)


@pytest.mark.parametrize("name", DOORS)
def test_sound_inputs_come_in(name, tmp_path, monkeypatch):
    """A door that refuses everything would be fuzzed in vain."""
    monkeypatch.chdir(ROOT)
    seeds, random, taken = DOORS[name].seeds(), Random(1), 0
    for seed in seeds[:: max(1, len(seeds) // 20)]:
        with contextlib.suppress(kvcalc.KvcalcError):
            DOORS[name].enter(seed, tmp_path, random)
            taken += 1
    assert taken >= 1


@pytest.mark.parametrize("failure", [RecursionError("x"), KeyError("x"), MemoryError()])
def test_a_crash_behind_a_door_is_noticed(tmp_path, failure):
    def crash(*_):
        raise failure

    with pytest.raises(type(failure)):
        seconds(Door(lambda: ["x"], lambda random, seed, seeds: seed, crash), 1, tmp_path, Counter())


def test_a_message_that_acts_is_noticed(tmp_path):
    class Raw(kvcalc.KvcalcError):
        def __str__(self):
            return "\x1b[31m"

    def enter(*_):
        raise Raw("x", help="")

    with pytest.raises(AssertionError):
        seconds(Door(lambda: ["x"], lambda random, seed, seeds: seed, enter), 1, tmp_path, Counter())
