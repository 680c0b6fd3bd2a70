"""What the ranks of tests/verify/test_ranks.py run, in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import distributed

from kvcalc.verify import fork_server
from kvcalc.verify.modules import module_for
from kvcalc.verify.processes import run_ranks
from kvcalc.verify.sharding import shard_of
from kvcalc.verify.watch import done

HIDDEN_SIZE = 32
TOKENS, STEPS = 6, 2


def attention_of_shards(parts) -> list[tuple[float, float, list[int]]]:
    """For each part: how far the sum of the ranks' outputs is from the whole output, the same where each rank takes
    the first rank's weights, and the bytes of each rank's cache."""
    found = []
    for facts in parts:
        torch.manual_seed(len(found))  # the same weights and input on every rank
        whole = module_for(facts)(facts, HIDDEN_SIZE, dtype=torch.float64, device="cpu")
        hidden = torch.randn(2, TOKENS, HIDDEN_SIZE, dtype=torch.float64)
        expected, _ = run(whole, hidden)
        ranks = distributed.get_world_size()
        output, own_bytes = run(shard_of(whole, ranks, distributed.get_rank()), hidden)
        wrong_output, _ = run(shard_of(whole, ranks, 0), hidden)
        distributed.all_reduce(output)
        distributed.all_reduce(wrong_output)
        every_bytes = [None] * ranks
        distributed.all_gather_object(every_bytes, own_bytes)
        found.append(
            ((output - expected).abs().max().item(), (wrong_output - expected).abs().max().item(), every_bytes)
        )
    return found


def run(module, hidden) -> tuple[torch.Tensor, int]:
    """Outputs of a prompt and of single tokens after it, and the bytes that the cache took."""
    cache = module.new_cache(len(hidden), TOKENS, torch.float64)
    chunks = [hidden[:, : TOKENS - STEPS], *hidden[:, TOKENS - STEPS :].split(1, dim=1)]
    with torch.no_grad():
        output = torch.cat([module(chunk, cache) for chunk in chunks], dim=1)
    return output, sum(slots.data.untyped_storage().nbytes() for slots in cache.values())


def die(how: str, pids: str) -> None:
    """Rank 1 dies; rank 0 waits for it in a collective."""
    tell_pid(pids)
    if distributed.get_rank() == 1:
        if how == "raises":
            raise ValueError("the disk is full")
        if how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "says nothing":
            os._exit(0)
        os._exit(3)
    distributed.barrier()


def wait(pids: str) -> None:
    """All ranks wait, in a collective or asleep, for something to end them."""
    tell_pid(pids)
    if distributed.get_rank() == 0:
        distributed.barrier()
    time.sleep(1000)


def stop(pids: str) -> None:
    """Rank 1 is stopped, as by a debugger; rank 0 waits for it in a collective."""
    tell_pid(pids)
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    distributed.barrier()


def hang(pids: str) -> None:
    """Rank 1 does not come to an end; rank 0 has done its own."""
    tell_pid(pids)
    if distributed.get_rank() == 1:
        time.sleep(1000)
    done()
    distributed.barrier()


def start_ranks_that_wait(pids: str) -> None:
    """A process that has ranks of its own, forked from itself, which has torch already."""
    fork_server.START_METHOD = "fork"
    run_ranks(wait, 2, pids)


def tell_pid(pids: str) -> None:
    """Leaves the ids of this process and of the server that forked it as the names of files."""
    for pid in (os.getpid(), os.getppid()):
        Path(pids, str(pid)).touch()
    distributed.barrier()
