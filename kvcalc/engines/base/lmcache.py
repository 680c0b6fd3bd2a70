"""LMCache: a store of chunks next to an engine, in host memory and on disk, per rank.

Each rank allocates int(max_local_cpu_size * 2^30) bytes of pinned host memory at start-up, and up to
max_local_disk_size of disk if local_disk names a place. That applies to all ranks with MLA, too, although only the
first one writes. local_cpu=false keeps no chunks in that memory, but it is allocated all the same. Source: LMCache
0.5.6, v1/config.py, v1/storage_backend/local_cpu_backend.py (initialize_allocator).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvcalc.errors import InvalidValueError
from kvcalc.parallel import Parallel
from kvcalc.report.tiers import DISK, HOST, Tier
from kvcalc.units import GIB, shown

NAME = "LMCache"
_CPU, _DISK, _DISK_PATH = "max_local_cpu_size", "max_local_disk_size", "local_disk"
_DEFAULT_CPU = 5.0
"""Default of max_local_cpu_size, in GiB."""


def lmcache_tiers(config: Mapping[str, object], ranks: Parallel) -> Iterator[Tier]:
    """LMCache's memory on each rank, by its configuration. Raises InvalidValueError for invalid sizes."""
    number = ranks.tp * ranks.pp
    cpu_bytes = _bytes(config, _CPU, _DEFAULT_CPU)
    by_default = "" if _CPU in config else ", its default"
    yield Tier(
        NAME, HOST, cpu_bytes, number * cpu_bytes, f"{_CPU} {config.get(_CPU, _DEFAULT_CPU)}{by_default}per rank"
    )
    if config.get(_DISK_PATH):
        disk_bytes = _bytes(config, _DISK, 0)
        yield Tier(NAME, DISK, disk_bytes, number * disk_bytes, f"{_DISK} {config.get(_DISK, 0)}per rank", at_most=True)


def _bytes(config: Mapping[str, object], field: str, default: float) -> int:
    value = config.get(field, default)
    try:
        size = float(str(value))
    except ValueError:
        size = -1.0
    if not 0 <= size < GIB:
        raise InvalidValueError(
            f"{field} must be a number of GiB, not {shown(value)}", field=field, help=f"write {field}: 20"
        )
    return int(size * GIB)
