"""What CUDA's allocator is asked, with an allocator of our own in its place: the arithmetic of a reading, and its guard."""

from __future__ import annotations

import os

import pytest
import torch

from kvcalc.verify import child
from kvcalc.verify.memory import AllocatorMeter, meter_for, rounded_up

MIB = 2**20


class Allocator:
    """Blocks of storages, by the rules of torch's: multiples of 512, and of large ones the rest of a block stays."""

    def __init__(self, *, expandable: bool, rest: int = 0) -> None:
        self.expandable, self.rest = expandable, rest
        self.held: list[int] = []

    def block(self, size: int) -> int:
        return rounded_up(size) + (self.rest if size > MIB else 0)

    def memory_stats(self) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": sum(map(self.block, self.held)),
            "requested_bytes.all.current": sum(self.held),
        }

    def memory_snapshot(self) -> list[dict[str, bool]]:
        return [{"is_expandable": self.expandable}]


def reading(monkeypatch, allocator: Allocator, storages: list[int], beside: int = 0):
    """Storages, and something beside them that is held all the time."""
    for name in ("memory_stats", "memory_snapshot"):
        monkeypatch.setattr(torch.cuda, name, getattr(allocator, name))
    for name, value in (
        ("init", None),
        ("reset_peak_memory_stats", None),
        ("memory_reserved", 7),
        ("max_memory_allocated", 5),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    meter = meter_for("cuda", fresh_process=False)
    assert isinstance(meter, AllocatorMeter)
    allocator.held = [*storages, beside]
    return meter.reading(storages, let_go=lambda: allocator.held.__delitem__(slice(len(storages))))


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, 512), (512, 512), (513, 1024), (MIB + 1, MIB + 512)])
def test_the_allocator_takes_multiples_of_512_bytes(size, rounded):
    assert rounded_up(size) == rounded


def test_a_reading_is_what_the_allocator_gets_back(monkeypatch):
    found = reading(monkeypatch, Allocator(expandable=True), [1000, 512, 3 * MIB], beside=4096)
    assert found.equal
    assert (found.predicted_bytes, found.measured_bytes) == (1024 + 512 + 3 * MIB,) * 2
    assert (found.storage_bytes, found.requested_bytes) == (1512 + 3 * MIB,) * 2
    assert (found.reserved_bytes, found.peak_bytes, found.spare_bytes) == (7, 5, 0)


@pytest.mark.parametrize(("rest", "equal"), [(0, True), (MIB, True), (MIB + 512, False)])
def test_without_expandable_segments_a_large_block_may_keep_a_rest_of_a_mebibyte(monkeypatch, rest, equal):
    found = reading(monkeypatch, Allocator(expandable=False, rest=rest), [MIB, 3 * MIB])
    assert found.spare_bytes == MIB
    assert found.equal is equal


def test_with_them_it_may_not(monkeypatch):
    assert not reading(monkeypatch, Allocator(expandable=True, rest=512), [3 * MIB]).equal


def test_a_storage_that_was_asked_for_larger_is_noticed_though_it_rounds_to_the_same(monkeypatch):
    allocator = Allocator(expandable=True)
    found = reading(monkeypatch, allocator, [1000])
    assert found.equal
    assert not found._replace(requested_bytes=1001).equal
    assert not found._replace(measured_bytes=1536).equal


@pytest.mark.parametrize("own", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_an_allocator_that_the_user_has_chosen_stays(monkeypatch, own):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    with child._environment(child.ENVIRONMENT):
        assert os.environ["PYTORCH_ALLOC_CONF"] == os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv(own, "backend:native")
    with child._environment(child.ENVIRONMENT):
        assert {name for name in os.environ if name.endswith("ALLOC_CONF")} == {own}
        assert os.environ[own] == "backend:native"
