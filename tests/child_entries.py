"""What child processes of the tests do, in a module that imports nothing slow."""

from __future__ import annotations

import os
import resource
import signal

import kvcalc


def fail_with_no_memory(progress):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ...")


def be_killed(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(progress):
    os._exit(7)


def refuse(progress):
    raise kvcalc.InvalidValueError("no", help="say yes", where="here")


def verify_with_little_memory(model, device, free_bytes, progress, **question):
    """Verifies where torch may take free_bytes more and is told that it may take any number."""
    import psutil
    import torch

    from kvcalc.verify.measure import verify

    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(free_bytes / torch.cuda.get_device_properties(0).total_memory)
    else:
        torch.set_num_threads(1)
        torch.randn(1024, 1024, dtype=torch.bfloat16) @ torch.randn(1024, 1024, dtype=torch.bfloat16)
        most = psutil.Process().memory_info().vms + free_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    return verify(model, device=device, memory_bytes=10**15, progress=progress, **question)
