"""Replaying a trace of 10,000 to 1,000,000 requests: seconds, their growth as a ratio, memory, the cost of a step.

Requests of about 1,100 tokens of prompt and 200 of output (lognormal, as Azure's conversations are), about 60 at a time
in a pool of 20,000 blocks of 16 tokens; once without prefixes, once with one of 50 prefixes of 512 tokens, and,
stepped, a model of windows and full attention. Goals: a million in less than a minute and 2 GB, and a growth of at most
1.2 times that of the requests. Run it with the Python of an installed kvcalc:

    python benchmarks/replay.py [--most 1000000]
"""

from __future__ import annotations

import random
import resource
import sys
from collections.abc import Iterator
from time import process_time

import kvcalc
from kvcalc.engines.base.traffic import Request

MODEL = kvcalc.load("llama-3-8b")
WINDOWS = kvcalc.load("gpt-oss-20b")
SCHEDULER = {"num_gpu_blocks": 20_000, "max_num_batched_tokens": 8192, "max_num_seqs": 256}
MIB = 2**10


def traffic(number: int, prefixes: int = 0) -> Iterator[Request]:
    """Requests in order of arrival, some four a step apart."""
    rng = random.Random(number)
    at = 0.0
    for name in range(number):
        at += rng.expovariate(1 / 3.5)
        prompt, output = int(rng.lognormvariate(6.6, 0.9)), int(rng.lognormvariate(5.0, 0.8))
        own = ((None, min(6000, prompt) + 1),)
        shared = ((rng.randrange(prefixes), 512),) if prefixes else ()
        yield Request(name, int(at), (*shared, *own), None, min(1500, output) + 1)


def replayed(number: int, prefixes: int = 0, model: kvcalc.Model = MODEL) -> tuple[float, kvcalc.ReplayReport]:
    """CPU seconds of a replay, and its report."""
    started = process_time()
    report = kvcalc.replay(model, traffic(number, prefixes), scheduler=SCHEDULER, every_step=False)
    return process_time() - started, report


def row(name: str, number: int, seconds: float, report: kvcalc.ReplayReport) -> str:
    """A line of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB
    a_step = 1e6 * seconds / report.totals.steps
    each = 1e6 * seconds / number
    return (
        f"{name:<22} {number:>9,} {seconds:>8.2f} s {each:>8.1f} us a request {a_step:>7.1f} us a step"
        f" {report.totals.steps:>10,} steps {report.totals.preemptions:>4} preempted {peak:>6,} MiB"
    )


def main() -> int:
    """Exit code 1 where a goal is missed."""
    most = int(sys.argv[2]) if sys.argv[1:2] == ["--most"] else 1_000_000
    sizes = [size for size in (10_000, 100_000, 1_000_000) if size <= most]
    missed = False
    for name, prefixes in (("alone", 0), ("behind 50 prefixes", 50)):
        found = []
        for size in sizes:
            seconds, report = replayed(size, prefixes)
            found.append(seconds)
            print(row(name, size, seconds, report), flush=True)
        times, longer = sizes[-1] // sizes[0], found[-1] / found[0]
        missed |= longer / times > 1.2 or (sizes[-1] == 1_000_000 and found[-1] > 60)
        print(f"{name}: {times} times the requests take {longer:.1f} times as long ({longer / times:.2f})")
    seconds, report = replayed(300, model=WINDOWS)
    print(row("step by step, windows", 300, seconds, report))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
