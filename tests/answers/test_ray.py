"""A local Ray cluster of two workers, in an environment that has ray: pytest -m ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kvcalc
from kvcalc.answers import sweep as sweeping
from kvcalc.answers.spread import Redone, spread

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
    """In its own words, without the traceback that Ray puts in front."""
    with pytest.raises(kvcalc.InvalidValueError, match=r"^a prompt of 9216 tokens"):
        kvcalc.replicas("llama3-8b", users=5, workload="9K", gpu="l40s", executor=executor)


TRACES = Path(__file__).parents[2] / "examples" / "traces"


def test_replays_are_those_of_one_process(executor):
    asked = {"scheduler": {"num_gpu_blocks": 3000}, "step_seconds": 0.02}
    models = ["llama3-8b", "gpt-oss-20b"]
    report = kvcalc.replays(models, TRACES, **asked, executor=executor)
    assert report == kvcalc.replays(models, TRACES, **asked)
    assert len(report.runs) == 6


def test_fits_are_those_of_one_process(executor):
    models = ["llama3-8b", "gpt-oss-20b"]
    for more in ({"tokens": "8K"}, {"workload": [TRACES / "azure.csv", TRACES / "counts.jsonl"], "tp": 1}):
        asked = {"users": 100, "gpu": ["l40s", "h100"], **more}
        assert kvcalc.fits(models, **asked, executor=executor) == kvcalc.fits(models, **asked)


def test_a_part_that_fails_there_is_done_here_and_said(executor):
    here = os.getpid()

    def failing(part: int) -> int:
        if os.getpid() != here:
            raise MemoryError(part)
        return 2 * part

    redone = Redone()
    assert list(spread(failing, range(5), executor, redone)) == [0, 2, 4, 6, 8]
    assert redone.notes == (
        "5 of 5 parts failed on workers (RayTaskError(MemoryError)) and had to be computed on this machine",
    )


@pytest.fixture(scope="module")
def client_address(cluster, tmp_path_factory):
    """The same cluster, by the server that ray://host:10001 is of."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    of_server = ["--address", cluster, "--host", "127.0.0.1", "--port", str(port), "--mode", "legacy"]
    log = tmp_path_factory.mktemp("ray") / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "ray.util.client.server", *of_server], stdout=file, stderr=file
        )
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


def test_the_command_line_uses_the_cluster(client_address):
    """In a process of its own, which joins the cluster and leaves it again."""
    line = ["replay", str(TRACES), "llama3-8b", "--blocks", "3000", "--step-ms", "20", "--format", "json"]
    command = [sys.executable, "-m", "kvcalc", *line]
    there, here = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=120).stdout
        for more in (["--on", client_address], [])
    )
    assert json.loads(there) == json.loads(here)


def test_no_cluster_is_said(cluster):
    with pytest.raises(kvcalc.KvcalcError, match="no Ray cluster answers"):
        kvcalc.on_ray("ray://127.0.0.1:1")
