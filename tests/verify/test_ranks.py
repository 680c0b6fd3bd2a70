"""Real ranks: each takes what was predicted, their attention adds up to the whole, and none outlives a dead one."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import psutil
import pytest
import rank_entries

import kvcalc
from kvcalc.parallel import Parallel
from kvcalc.report.sheet import Line
from kvcalc.verify.processes import run_ranks
from kvcalc.verify.ranks import verify_ranks

pytestmark = pytest.mark.slow

GQA = {"attention": "gqa", "num_query_heads": 8, "num_kv_heads": 4, "head_dim": 8, "v_head_dim": 12}
MLA = {"num_query_heads": 8, "qk_rope_head_dim": 6, "qk_nope_head_dim": 10, "v_head_dim": 12}
KINDS = {
    "gqa, heads divided": GQA,
    "gqa, heads copied": {**GQA, "num_kv_heads": 2},
    "mqa": {**GQA, "num_kv_heads": 1},
    "mla": {"attention": "mla", "kv_lora_rank": 16, **MLA},
    "mla-naive": {"attention": "mla-naive", **MLA},
    "gla, latents divided": {"attention": "gla", "num_latent_heads": 4, "latent_head_dim": 16, **MLA},
    "gla, latents copied": {"attention": "gla", "num_latent_heads": 2, "latent_head_dim": 16, **MLA},
    "gta": {"attention": "gta", "num_query_heads": 8, "num_kv_heads": 4, "head_dim": 8, "qk_rope_head_dim": 4},
    "tpa": {"attention": "tpa", "num_query_heads": 8, "head_dim": 8, "k_rank": 2, "v_rank": 3},
    "mfa-kr": {"attention": "mfa-kr", "num_query_heads": 8, "head_dim": 10},
}
WINDOWS = {
    "name": "windows",
    "num_layers": 4,
    **GQA,
    "layer_pattern": ["sliding", "full"],
    "layers": {"sliding": {"sliding_window": 7}, "full": {"num_kv_heads": 1}},
}
SECONDS = 30
"""In which a death must have been told."""


def model_of(facts) -> kvcalc.Model:
    return kvcalc.load({"name": "tiny", "num_layers": 1, **facts})


def alive(pids: Path) -> list[int]:
    """Processes that told their id and still run."""
    return [int(path.name) for path in pids.iterdir() if runs(path.name)]


def runs(pid: int | str) -> bool:
    return Path(f"/proc/{pid}").exists()


def gone(pids) -> bool:
    """Whether they all end soon."""
    until = time.monotonic() + SECONDS
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(runs, pids))


def last_told(pids: Path) -> float:
    """When the last process told its id, in seconds since 1970: the one that dies does so right after."""
    return max(path.stat().st_mtime for path in pids.iterdir())


def server_of(pids: Path) -> int:
    """The fork server, which lives as long as this process, and serves the next ranks."""
    return next(pid for pid in alive(pids) if f"\nPPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text())


def test_attention_of_four_ranks_adds_up_to_the_whole():
    """Heads divided, KV heads copied, the latent on every rank; and the wrong heads do not add up."""
    models = [model_of(facts) for facts in KINDS.values()]
    found = run_ranks(rank_entries.attention_of_shards, 4, [model.groups[0].parts[0] for model in models])
    for name, model, (off, off_if_wrong, rank_bytes) in zip(KINDS, models, found, strict=True):
        assert off < 1e-12, name
        assert off_if_wrong > 1e-3, name
        # rows in float64 take twice those in fp32
        report = kvcalc.size(model, tokens=rank_entries.TOKENS, sequences=2, kv_dtype="fp32", parallel=Parallel(tp=4))
        assert rank_bytes == [2 * rank.bytes for rank in report.per_rank], name


def test_every_rank_of_two_stages_takes_what_was_predicted():
    """Sliding layers of 4 KV heads and full ones of 1, on TP 2 x PP 2; the head of the full ones is copied."""
    result = verify_ranks(kvcalc.load(WINDOWS), Parallel(tp=2, pp=2), tokens=20, sequences=3, device="cpu")
    sliding, full = 2 * 7 * 20 * 2, 20 * 20 * 2  # KV heads, slots, widths of k and v, bytes
    assert [rank.measured.storage_bytes for rank in result.ranks] == 4 * [3 * (sliding + full)]
    assert [rank.predicted.layers for rank in result.ranks] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert result.equal
    assert result.predicted_bytes == result.storage_bytes > result.whole_bytes
    assert result.to_dict()["ranks"][3]["tensors"][0]["storage_bytes"] == 3 * sliding * 8 // 20
    (sheet,) = result.sheets()
    assert sheet.lines[-1] == Line("verdict", "equal, to the byte")
    assert sheet.rows[2] == (2, "2 to 3", 3, 3 * (sliding + full), 3 * (sliding + full), "equal")
    json.dumps(result.to_dict())


def test_data_parallel_ranks_take_their_own_sequences_and_a_wrong_prediction_is_noticed():
    model = kvcalc.load({"name": "latent", "num_layers": 3, **KINDS["mla"]})
    result = verify_ranks(model, Parallel(dp=2), tokens=4, sequences=6, device="cpu", layers=2)
    assert [rank.measured.storage_bytes for rank in result.ranks] == 2 * [3 * 4 * 2 * (16 + 6) * 2]
    assert result.equal
    first, second = result.ranks
    tensor = first.measured.tensors[0]
    doubled = tensor._replace(storage_bytes=2 * tensor.storage_bytes)
    wrong = first._replace(measured=first.measured._replace(tensors=(doubled, *first.measured.tensors[1:])))
    forged = result._replace(ranks=(wrong, second))
    assert not forged.equal
    assert forged.sheets()[0].lines[-1] == Line("verdict", "not equal: rank 0", "alarm")
    assert forged.sheets()[0].rows[0][-1].words == f"{tensor.storage_bytes:+,} bytes"


DEATHS = {
    "is killed": (
        "rank 1 of 2 was ended by SIGKILL",
        "likely out of memory: use fewer tokens, or --device meta",
    ),
    "exits": ("rank 1 of 2 died with exit code 3", "it printed nothing; try again"),
    "raises": ("rank 1 of 2 died with exit code 1", "its last output was: ValueError: the disk is full"),
}


@pytest.mark.parametrize("how", DEATHS)
def test_a_rank_that_dies_is_named_in_time_and_takes_the_others_with_it(how, tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(kvcalc.KvcalcError) as error:
        run_ranks(rank_entries.die, 2, how, str(tmp_path))
    assert time.time() - last_told(tmp_path) < SECONDS
    assert (str(error.value), error.value.help, error.value.exit_code) == (*DEATHS[how], 1)
    assert alive(tmp_path) == [server_of(tmp_path)]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_rank_that_ends_without_a_word_is_noticed_by_its_peer(tmp_path):
    with pytest.raises(kvcalc.KvcalcError, match="rank 0 of 2 died with exit code 1") as error:
        run_ranks(rank_entries.die, 2, "says nothing", str(tmp_path))
    assert "reset by peer" in error.value.help or "closed by peer" in error.value.help


def test_ctrl_c_ends_every_rank(tmp_path):
    def interrupt():
        while len(list(tmp_path.iterdir())) < 3:  # two ranks and their server
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_ranks(rank_entries.wait, 2, str(tmp_path))
    assert alive(tmp_path) == [server_of(tmp_path)]


HANGS = {
    "stop": (
        "rank 1 of 2 was stopped, for over 1 seconds",
        "all ranks were ended; continue it (SIGCONT), or find out what stops it",
    ),
    "hang": (
        "rank 1 of 2 did not finish within 3 seconds",
        "all ranks were ended; raise --timeout, or use fewer tokens",
    ),
}


@pytest.mark.parametrize("how", HANGS)
def test_a_rank_that_hangs_is_named_and_all_are_ended(how, tmp_path, monkeypatch):
    monkeypatch.setattr("kvcalc.verify.watch.STOPPED_SECONDS", 1)
    timeout_seconds = 3 if how == "hang" else 1000
    with pytest.raises(kvcalc.KvcalcError) as error:
        run_ranks(getattr(rank_entries, how), 2, str(tmp_path), timeout_seconds=timeout_seconds)
    assert time.time() - last_told(tmp_path) < SECONDS
    assert (str(error.value), error.value.help, error.value.exit_code) == (*HANGS[how], 1)
    assert alive(tmp_path) == [server_of(tmp_path)]


COMMAND = "verify --preset llama-3-8b --tokens 300 --decode-steps 100"
MOMENTS = (
    0.2,
    0.5,
    1.1,
    1.7,
    2.6,
    3.7,
    5.2,
    7.0,
    9.5,
    13.0,
    *(round(moment.uniform(0.1, 8), 2) for moment in map(Random, range(10))),
)
"""Seconds after the start: while Python starts, torch is imported, ranks meet, and layers run."""


@pytest.mark.parametrize("layout", ["", " --tp 2"], ids=["alone", "ranks"])
@pytest.mark.parametrize(
    ("stop", "seconds"),
    [
        *((signal.SIGINT, s) for s in MOMENTS),
        *((n, s) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) for s in (1.7, 9.5)),
    ],
)
def test_a_command_that_is_stopped_at_any_moment_leaves_nothing(stop, seconds, layout, tmp_path):
    """As a terminal does it: the signal goes to all of the process group."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever started us may ignore it
        f"from kvcalc.cli import main; raise SystemExit(main({(COMMAND + layout).split()}))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    time.sleep(seconds)
    children = psutil.Process(started.pid).children(recursive=True) if started.poll() is None else []
    if started.poll() is None:
        os.killpg(started.pid, stop)
    _, errors = started.communicate(timeout=SECONDS)
    psutil.wait_procs(children, timeout=SECONDS)
    assert not [process for process in children if process.is_running()]
    assert started.returncode in (128 + stop, -stop, 0), errors
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_ranks_end_with_a_parent_that_is_killed(tmp_path):
    """Nobody is left to end them: they notice by themselves."""
    parent = multiprocessing.get_context("forkserver").Process(
        target=rank_entries.start_ranks_that_wait, args=(str(tmp_path),)
    )
    parent.start()
    while len(list(tmp_path.iterdir())) < 3 and parent.is_alive():  # two ranks, and what forked them
        time.sleep(0.05)
    processes = alive(tmp_path)
    parent.kill()
    assert len(processes) == 3
    assert gone(processes)
    parent.join()


def test_nothing_is_left_of_a_command_that_is_killed(tmp_path):
    """As above, and the server ends as well; slow, because torch is imported twice."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from kvcalc.verify import fork_server
fork_server.start()
import rank_entries
from kvcalc.verify.processes import run_ranks
if __name__ == "__main__":
    run_ranks(rank_entries.wait, 2, {str(tmp_path)!r})
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        while len(list(tmp_path.iterdir())) < 3:
            assert parent.poll() is None
            time.sleep(0.05)
        processes = alive(tmp_path)
        assert len(processes) == 3
        parent.kill()
    assert gone(processes)


TINY = model_of(GQA)
REFUSED = {
    "too many": (
        {"parallel": Parallel(tp=65)},
        "TP 65 has 65 ranks; the limit is 64",
        "`kvcalc size` sizes any number of ranks",
    ),
    "uneven": (
        {"parallel": Parallel(tp=3)},
        "all layers: num_query_heads (8) is not a multiple of tp (3)",
        "tp 2 or 4 would work",
    ),
    "too large": (
        {"parallel": Parallel(tp=2), "memory_bytes": 2 * 1000},
        "the caches of 2 ranks need 16,000 bytes (16.00 kB, 15.62 KiB) on cpu, but 2,000 bytes (2.00 kB, 1.95 KiB) are "
        "free",
        "12 tokens would fit; --device meta takes no memory",
    ),
    "another device": ({"device": "tpu"}, "device must be one of cpu, cuda, meta, not 'tpu'", "write cpu"),
    "a format without tensors": (
        {"parallel": Parallel(dp=2), "kv_dtype": "int4", "sequences": 2},
        "rank 0: torch has no tensors of int4",
        "verify with bf16, fp16, fp32, fp8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_ranks_cannot_do_is_told(case):
    question, what, help = REFUSED[case]
    with pytest.raises(kvcalc.KvcalcError) as error:
        verify_ranks(TINY, **{"parallel": Parallel(tp=2), "tokens": 100, "device": "cpu", **question})
    assert (str(error.value), error.value.help) == (what, help)


def test_each_rank_needs_a_cuda_device_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(kvcalc.InvalidValueError) as error:
        verify_ranks(TINY, Parallel(tp=2), tokens=1, device="cuda")
    assert (str(error.value), error.value.help) == (
        "2 ranks need one CUDA device each, but torch finds 1 CUDA device",
        "--device cpu or meta",
    )


def test_errors_can_be_sent_from_one_process_to_another():
    error = kvcalc.InvalidValueError("wrong", field="tp", help="try 2").at("rank 1")
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), sent.help, sent.field) == (type(error), "rank 1: wrong", "try 2", "tp")
