"""Work spread over an executor: the same answer, in order, few parts under way, and none lost with its worker."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.answers import sweep as sweeping
from kvcalc.answers.spread import Redone, spread
from kvcalc.errors import InvalidValueError, KvcalcError


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def doubled(part: int) -> int:
    return 2 * part


def lethal(part: int) -> int:
    """Ends the worker that gets part 5, as a machine that is lost would."""
    if part == 5 and parent_process() is not None:
        os._exit(1)
    return 2 * part


def refused(part: int) -> int:
    raise InvalidValueError(f"part {part}", help="another", field="part", where="here")


class Counting(Executor):
    """Notes how many parts are under way at most; each is done when its result is asked for."""

    def __init__(self) -> None:
        self.under_way = self.most = 0

    def submit(self, fn, /, *args, **kwargs):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        counting = self

        class Later(Future):
            def result(self, timeout=None):
                counting.under_way -= 1
                return fn(*args, **kwargs)

        return Later()


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_results_are_those_of_one_process_in_order(parts, under_way):
    counting = Counting()
    assert list(spread(doubled, parts, counting, under_way=under_way)) == list(map(doubled, parts))
    assert counting.most <= under_way
    assert list(spread(doubled, parts)) == list(map(doubled, parts))


def test_a_lost_worker_costs_no_result():
    """The pool is broken from part 5 on: what it had, and what it takes no more, is done here."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        redone = Redone()
        assert list(spread(lethal, range(50), executor, redone, under_way=4)) == [2 * part for part in range(50)]
    assert redone.parts == 50
    assert 1 <= redone.failed["BrokenProcessPool"] == redone.failed.total() <= 50
    assert "of 50 parts failed on workers (BrokenProcessPool) and had to be computed on this" in redone.notes[0]


class Closed(Executor):
    """Takes nothing, as a cluster that is gone: what that raises is its own affair."""

    def submit(self, fn, /, *args, **kwargs):
        raise ConnectionError("secret of the cluster")


def test_an_executor_that_takes_nothing_costs_no_result_and_is_said():
    redone = Redone()
    assert list(spread(doubled, [1, 2], Closed(), redone)) == [2, 4]
    assert redone.notes == ("2 of 2 parts failed on workers (ConnectionError) and had to be computed on this machine",)
    with pytest.warns(RuntimeWarning, match=r"3 of 3 parts failed on workers \(ConnectionError\)"):
        found = kvcalc.sweep(["r1", "llama3-8b", "jamba"], tokens=[1, 2], executor=Closed())
    assert (found == kvcalc.sweep(["r1", "llama3-8b", "jamba"], tokens=[1, 2])).all()
    asked = {"users": 500, "workload": "1K:5,4K:1", "output": 200, "gpu": "l40s", "tp": 1}
    report, plain = kvcalc.replicas("llama3-8b", **asked, executor=Closed()), kvcalc.replicas("llama3-8b", **asked)
    assert report._replace(notes=plain.notes) == plain
    assert set(report.notes) - set(plain.notes) == {
        "14 of 14 parts failed on workers (ConnectionError) and had to be computed on this machine"
    }


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 12))
def test_what_is_under_way_is_bounded_by_its_cost(parts, most):
    """A part that costs more than may be under way goes alone."""
    counting = Counting()
    found = []
    for result in spread(doubled, parts, counting, under_way=most, cost=lambda part: part):
        found.append(result)
        assert counting.under_way == 0 or sum(parts[len(found) : len(found) + counting.under_way]) <= max(most, 9)
    assert found == list(map(doubled, parts))
    if all(part * 2 > most for part in parts):
        assert counting.most <= 1


def test_what_is_refused_is_raised_as_it_is(processes):
    with pytest.raises(InvalidValueError, match=r"^here: part 1$") as caught:
        list(spread(refused, [1, 2], processes, redone := Redone()))
    assert not redone.notes
    assert (caught.value.field, caught.value.help) == ("part", "another")


@pytest.mark.parametrize("name", ["r1", "gpt-oss-20b", "jamba", "qwen3-next-80b-a3b", "deepseek-v4-pro"])
def test_models_can_be_sent(name):
    model = kvcalc.load(name)
    sent = pickle.loads(pickle.dumps(model))
    assert sent == model
    assert dict(sent.older_readings) == dict(model.older_readings)
    assert kvcalc.size(sent, tokens=1000).total_bytes == kvcalc.size(model, tokens=1000).total_bytes


@pytest.mark.parametrize("engine", ["ideal", "vllm", "llama_cpp"])
def test_a_sweep_is_that_of_one_process(processes, monkeypatch, engine):
    monkeypatch.setattr(sweeping, "POINTS_OF_A_PART", 70)
    tokens, batch = np.arange(1, 8000, 37)[:, None], [1, 3]
    asked = {"tokens": tokens, "batch": batch, "engine": engine}
    for models in ("llama3-8b", ["llama3-8b", "gemma-3-27b", "jamba"]):
        assert (kvcalc.sweep(models, **asked, executor=processes) == kvcalc.sweep(models, **asked)).all()


def test_replicas_are_those_of_one_process(processes):
    asked = {"users": 500, "workload": "1K:5,4K:1", "output": 200, "gpu": ["l40s", "h100"]}
    spread_out = kvcalc.replicas("llama3-8b", **asked, executor=processes)
    assert spread_out.to_dict() == kvcalc.replicas("llama3-8b", **asked).to_dict()


def test_threads_do_as_well():
    with ThreadPoolExecutor(2) as executor:
        assert (
            kvcalc.sweep("r1", tokens=[1, 2, 3], executor=executor).tolist()
            == kvcalc.sweep("r1", tokens=[1, 2, 3]).tolist()
        )


@pytest.mark.parametrize("address", ["", 5, None])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(KvcalcError, match="not the address of a Ray cluster"):
        kvcalc.on_ray(address)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(KvcalcError, match="needs the package ray") as caught:
        kvcalc.on_ray("ray://127.0.0.1:10001")
    assert "kvcalc[ray]" in caught.value.help
