"""GPUs by name, with the memory that their driver reports: `presets/gpus.yaml`."""

from __future__ import annotations

from functools import cache

from kvcalc.errors import UnknownNameError
from kvcalc.io.documents import Document, read_yaml
from kvcalc.io.fields import Fields
from kvcalc.io.presets import GPUS_FILE, presets_folder
from kvcalc.plan import Gpu


@cache
def gpus() -> dict[str, Gpu]:
    """Every GPU by name and by alias, in lower case."""
    document = read_yaml(presets_folder() / GPUS_FILE)
    top = Fields(Document(f"presets/{GPUS_FILE}", document.data, document.lines))
    found = {}
    for name in top.values:
        entry = top.section(name)
        entry.only(("aliases", "memory_bytes", "source"))
        gpu = Gpu(name, entry.integer("memory_bytes", most=2**50), entry.text("source"))
        for spelling in (name, *entry.texts("aliases")):
            found[spelling.lower()] = gpu
    return found


def gpu_named(name: str) -> Gpu:
    """GPU of that name or alias, in any case. Raises UnknownNameError with the nearest."""
    gpu = gpus().get(name.lower())
    if gpu is None:
        raise UnknownNameError.among("GPU", name, gpus(), see=f"presets/{GPUS_FILE} lists them all")
    return gpu
