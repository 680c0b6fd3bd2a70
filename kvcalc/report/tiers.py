"""Caches that an engine keeps off its devices: in host memory and on disk."""

from typing import TYPE_CHECKING, NamedTuple

from kvcalc.report.sheet import Json, Line
from kvcalc.units import both_units, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Bars

HOST, DISK = "host memory", "disk"


class Tier(NamedTuple):
    """A cache of one engine in one place. medium: HOST or DISK.

    rank_bytes: of the largest rank; replica_bytes: of all ranks of a replica. None: unlimited or unknown; words then
    say why. at_most: whether the bytes are an upper limit. words: derivation of the number.
    """

    name: str
    medium: str
    rank_bytes: int | None
    replica_bytes: int | None
    words: str
    at_most: bool = False


class NodeTier(NamedTuple):
    """A tier on one node. num_gpus: GPUs of the node that use it; node_bytes: of all of them."""

    tier: Tier
    num_gpus: int
    node_bytes: int | None

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        tier = self.tier
        return {
            "name": tier.name,
            "medium": tier.medium,
            "rank_bytes": tier.rank_bytes,
            "gpus_of_node": self.num_gpus,
            "node_bytes": self.node_bytes,
            "at_most": tier.at_most,
            "words": tier.words,
        }

    @property
    def words(self) -> str:
        """`HiCache: 48.00 GiB on a node of 4 GPUs (...)`."""
        tier = self.tier
        if self.node_bytes is None:
            return f"{tier.name}: {tier.words}"
        most = "at most " if tier.at_most else ""
        on = "" if self.num_gpus == 1 else f" on a node of {plural(self.num_gpus, 'GPU')}"
        return f"{tier.name}: {most}{both_units(self.node_bytes)}{on} ({tier.words})"

    def __str__(self) -> str:
        return f"in {self.tier.medium}, {self.words}" if self.tier.medium == HOST else f"on disk, {self.words}"


def host_bytes(tiers: tuple[NodeTier, ...]) -> int:
    """Host memory of a node for all tiers with a limit."""
    return sum(each.node_bytes or 0 for each in tiers if each.tier.medium == HOST)


def tier_lines(tiers: tuple[NodeTier, ...]) -> tuple[Line, ...]:
    """One line for each."""
    return tuple(Line(each.tier.medium, each.words) for each in tiers)


def tier_charts(tiers: tuple[NodeTier, ...], title: str, host_memory_bytes: int | None = None) -> "tuple[Bars, ...]":
    """What a node keeps off its devices, a bar for each medium; none if nothing is kept or known.

    title: of what keeps it; host_memory_bytes: of a node, where that is known.
    """
    from kvcalc.report.chart import Bar, Bars, Level, Segment

    known = [(each, each.node_bytes) for each in tiers if each.node_bytes]
    media = dict.fromkeys(each.tier.medium for each, _ in known)
    bars = tuple(
        Bar(
            medium,
            tuple(Segment(e.tier.name, size, tone) for tone, (e, size) in enumerate(known) if e.tier.medium == medium),
        )
        for medium in media
    )
    if not bars:
        return ()
    gpus = max(each.num_gpus for each, _ in known)
    node = "" if gpus == 1 else f", on a node of {plural(gpus, 'GPU')}"
    levels = () if host_memory_bytes is None else (Level("host memory of the node", host_memory_bytes),)
    return (Bars(f"{title}: caches off the GPU{node}", "bytes on a node", bars, levels, tuple(map(str, tiers))),)
