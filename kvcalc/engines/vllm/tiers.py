"""Blocks that vLLM's connectors keep off the device: in host memory, all ranks of a replica together.

--kv-offloading-size is GiB per replica, independent of its ranks; so is cpu_bytes_to_use of OffloadingConnector and
SimpleCPUOffloadConnector, in bytes, in whole chunks. Each replica of data parallelism has its own. LMCache's sizes are
per rank; a separate server (LMCacheMPConnector) is another process. Connectors that pass caches on to other engines
keep none. V1 allocates no swap space.
Source: vLLM 0.33, config/vllm.py (_post_init_kv_transfer_config), v1/kv_offload/cpu/spec.py,
distributed/kv_transfer/kv_connector/v1/simple_cpu_offload_connector.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvcalc.engines.base.lmcache import NAME as LMCACHE
from kvcalc.engines.base.lmcache import lmcache_tiers
from kvcalc.engines.vllm.settings import VllmSettings
from kvcalc.errors import InvalidValueError
from kvcalc.parallel import Parallel
from kvcalc.report.tiers import DISK, HOST, Tier
from kvcalc.units import GIB, shown

NAME = "KV offloading"
_OFFLOADING, _SIMPLE = "OffloadingConnector", "SimpleCPUOffloadConnector"
_LMCACHE = ("LMCacheConnector", "LMCacheConnectorV1")
_LMCACHE_SERVER = "LMCacheMPConnector"
_MULTI = "MultiConnector"
_SIMPLE_DEFAULT_BYTES = 8 * GIB
_OWN = "lmcache."
"""Prefix of LMCache's own settings among those of a connector."""

Connector = tuple[str, Mapping[str, object]]


def tiers_of(settings: VllmSettings, ranks: Parallel) -> Iterator[Tier]:
    """What each connector keeps. Raises InvalidValueError for invalid sizes."""
    for name, extra in _connectors(settings):
        if name in (_OFFLOADING, _SIMPLE):
            yield from _offloading(name, extra, ranks)
        elif name in _LMCACHE:
            own = {key.removeprefix(_OWN): value for key, value in extra.items() if key.startswith(_OWN)}
            yield from lmcache_tiers({**(settings.lmcache or {}), **own}, ranks)
        elif name == _LMCACHE_SERVER:
            yield Tier(LMCACHE, HOST, None, None, "a separate server, whose size vLLM does not set")


def _connectors(settings: VllmSettings) -> Iterator[Connector]:
    """Connectors with their configuration; --kv-offloading-size adds or replaces one."""
    if settings.kv_offloading_size is None:
        yield from _named(settings.kv_transfer_config or {})
        return
    size_bytes = int(settings.kv_offloading_size * GIB)
    if settings.kv_offloading_backend == "native":
        yield _OFFLOADING, {**_extra(settings.kv_transfer_config or {}), "cpu_bytes_to_use": size_bytes}
    else:
        yield _LMCACHE_SERVER, {}


def _named(config: Mapping[str, object]) -> Iterator[Connector]:
    name, extra = config.get("kv_connector"), _extra(config)
    if name != _MULTI:
        yield str(name), extra
        return
    inner = extra.get("connectors")
    for each in inner if isinstance(inner, list) else []:
        if isinstance(each, Mapping):
            yield from _named(each)


def _extra(config: Mapping[str, object]) -> Mapping[str, object]:
    extra = config.get("kv_connector_extra_config")
    return extra if isinstance(extra, Mapping) else {}


def _offloading(name: str, extra: Mapping[str, object], ranks: Parallel) -> Iterator[Tier]:
    number = ranks.tp * ranks.pp
    per_rank = extra.get("cpu_bytes_to_use_per_rank") if name == _SIMPLE else None
    if per_rank is not None:
        rank_bytes = _count(per_rank, "cpu_bytes_to_use_per_rank")
        yield Tier(NAME, HOST, rank_bytes, number * rank_bytes, "cpu_bytes_to_use_per_rank", at_most=True)
        return
    given = extra.get("cpu_bytes_to_use", _SIMPLE_DEFAULT_BYTES if name == _SIMPLE else None)
    if not given:
        raise InvalidValueError(
            "cpu_bytes_to_use must be specified in kv_connector_extra_config",
            field="kv_transfer_config",
            help='add "kv_connector_extra_config": {"cpu_bytes_to_use": 10737418240}, or use --kv-offloading-size',
        )
    all_bytes = _count(given, "cpu_bytes_to_use")
    shared = ", all ranks together" if number > 1 else ""
    yield Tier(NAME, HOST, -(-all_bytes // number), all_bytes, f"whole chunks of blocks{shared}", at_most=True)
    if extra.get("secondary_tiers"):
        yield Tier(NAME, DISK, None, None, "secondary tiers, which have their own limits")


def _count(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**63:
        raise InvalidValueError(
            f"{field} must be a number of bytes, not {shown(value)}",
            field="kv_transfer_config",
            help=f"write {field}: 10737418240",
        )
    return int(value)
