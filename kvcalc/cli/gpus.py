"""`kvcalc gpus`: devices with the memory that their driver reports, and the source of each number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import KvcalcError

if TYPE_CHECKING:
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.report.gpus import AskedName


def run(*, words: Sequence[str], format: str) -> int:
    """Runs `kvcalc gpus`."""
    check_output_format(format)

    from kvcalc.hardware import gpu_named, gpus
    from kvcalc.report.gpus import GpuList, GpuPage

    named = " ".join(words)
    if not words:
        show(GpuList(gpus(), _asked_back()), format)
        return 0
    chosen = tuple(gpu for gpu in gpus() if all(word.lower() in _words_of(gpu) for word in words))
    try:
        show(GpuPage(gpu_named(named)), format)
    except KvcalcError as error:
        if not chosen:
            raise error.at("WORD") if not error.where else error from None
        show(GpuList(chosen), format)
    return 0


def _words_of(gpu: Gpu) -> str:
    """The text that search words are matched against."""
    return " ".join((gpu.name, *gpu.aliases, gpu.vendor, gpu.kind, gpu.generation, gpu.memory_from)).lower()


def _asked_back() -> tuple[AskedName, ...]:
    """Ambiguous names, each with its candidates."""
    from kvcalc.hardware.naming import asked_back
    from kvcalc.report.gpus import AskedName

    return tuple(AskedName(name, why, candidates) for name, why, candidates in asked_back())


COMMAND = Command(
    help=(
        "GPUs and other devices, with the memory that their drivers report.\n\n"
        "A name shows one device and the source of each figure; words list the devices that match all of them."
    ),
    epilog="Example: kvcalc gpus nvidia hopper",
    takes=(options.GPU_WORDS, options.FORMAT),
    run=run,
)
