"""What child processes of the tests do, in a module that imports nothing slow."""

from __future__ import annotations

import os
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
