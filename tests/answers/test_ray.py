"""A local Ray cluster of two workers, in an environment that has ray: pytest -m ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import kvcalc
from kvcalc.answers import sweep as sweeping
from kvcalc.answers.spread import spread

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    started = ray.init(
        num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, logging_level="error", log_to_driver=False
    )
    yield started.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    return kvcalc.on_ray(cluster)


def test_a_sweep_is_that_of_one_process(executor, monkeypatch):
    monkeypatch.setattr(sweeping, "POINTS_OF_A_PART", 1000)
    models, tokens = ["r1", "llama3-8b", "jamba"], np.arange(1, 100_000, 11)
    assert (kvcalc.sweep(models, tokens=tokens, executor=executor) == kvcalc.sweep(models, tokens=tokens)).all()


def test_replicas_are_those_of_one_process(executor):
    asked = {"users": 500, "workload": "1K:5,4K:1", "output": 200, "gpu": ["l40s", "h100"]}
    assert kvcalc.replicas("llama3-8b", **asked, executor=executor) == kvcalc.replicas("llama3-8b", **asked)


def test_a_lost_worker_costs_no_result(executor, tmp_path):
    here = os.getpid()

    def killed(part: tuple[int, str]) -> tuple[int, bool]:
        """The first worker that gets part 3 is killed, as by a machine that runs out of memory."""
        number, flag = part
        if number == 3 and os.getpid() != here and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number, os.getpid() != here

    parts = [(number, str(tmp_path / "killed")) for number in range(40)]
    found = list(spread(killed, parts, executor, under_way=8))
    assert [number for number, _ in found] == [2 * number for number in range(40)]
    assert (tmp_path / "killed").exists()
    assert all(away for _, away in found)


def test_what_is_refused_there_is_refused_here(executor):
    with pytest.raises(kvcalc.InvalidValueError, match="prompt of 9216 tokens"):
        kvcalc.replicas("llama3-8b", users=5, workload="9K", gpu="l40s", executor=executor)


def test_no_cluster_is_said(cluster):
    with pytest.raises(kvcalc.KvcalcError, match="no Ray cluster answers"):
        kvcalc.on_ray("ray://127.0.0.1:1")
