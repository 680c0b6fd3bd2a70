"""What a tensor-parallel rank holds of a module's weights."""

from __future__ import annotations

from torch import Size, Tensor

from kvcalc.verify.modules._module import CacheModule


def shard_of(module: CacheModule, tp: int, tp_rank: int) -> CacheModule:
    """Module of one of `tp` ranks, whose outputs add up to that of `module`.

    Its facts are those that sizing gives the rank, and its weights the slices of the whole ones that have their shapes.
    For modules whose heads lie side by side along an axis of each weight: gqa, gta, gla, mla, mla-naive,
    mfa-kr and tpa.
    """
    shard = type(module)(module.facts.shard(tp), module.hidden_size, dtype=module.dtype, device=module.device)
    whole = module.state_dict()
    own = {name: _slice(whole[name], weight.shape, tp, tp_rank) for name, weight in shard.state_dict().items()}
    shard.load_state_dict(own)
    return shard


def _slice(weight: Tensor, shape: Size, tp: int, tp_rank: int) -> Tensor:
    """The rank's part along each axis that is split; of fewer parts than ranks, neighbours hold the same one."""
    for axis, (length, own) in enumerate(zip(weight.shape, shape, strict=True)):
        part = tp_rank * (length // own) // tp
        weight = weight.narrow(axis, part * own, own)
    return weight
