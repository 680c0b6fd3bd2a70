"""Layers whose cache a method selects: their torch policy instead of the module's own cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods import METHODS
from kvcalc.methods._traits import ARCHITECTURE
from kvcalc.model import Applied, LayerGroup, Model
from kvcalc.units import count, plural
from kvcalc.verify.layer import Caches
from kvcalc.verify.modules._slots import State
from kvcalc.verify.modules.gqa import GroupedQueryModule
from kvcalc.verify.policies import POLICIES
from kvcalc.verify.policies._policy import Place, Policy
from kvcalc.verify.quantised import QUANTISED

MOST_PROMPT_TOKENS = 4096
"""Longest prompt for policies: several of them read the whole attention map."""


class Steps(NamedTuple):
    """How the tokens of a run come: a prompt, then one by one."""

    prompt: int
    decode_steps: int


def policy_of(model: Model) -> Applied | None:
    """The method that selects what the model's layers keep; None if only their attention does.

    Raises NotApplicableError for two such methods: each has its own policy, but no policy covers both.
    """
    deciding = [each for each in model.methods if METHODS.module(each.name).TRAITS.kind != ARCHITECTURE]
    if len(deciding) > 1:
        names = " and ".join(each.name for each in deciding)
        raise NotApplicableError(
            f"{names} can be sized together, but only run one at a time", help="verify with one of them"
        )
    return deciding[0] if deciding else None


def policy_for(applied: Applied, place: Place) -> Policy:
    """Policy of the method for one layer, which may be a quantised cache. Raises UnknownNameError if it has none."""
    registry = POLICIES if applied.name in POLICIES.names() else QUANTISED
    policy: Policy = registry.module(applied.name).POLICY(place, applied.arguments)
    return policy


def steps_of(applied: Applied, tokens: int, decode_steps: int) -> Steps:
    """How `tokens` arrive so that the run matches the prediction.

    A method that needs the prompt's length gets its own setting or, as in sizing, all tokens as the prompt; the rest is
    decoded. Other methods decode decode_steps. Raises InvalidValueError for a prompt longer than policies accept, or
    than the tokens.
    """
    told = applied.arguments.get("prompt_tokens", max(1, tokens - decode_steps))
    prompt: int = tokens if told is None else told
    if prompt > tokens:
        raise InvalidValueError(
            f"{applied.name} has a prompt of {plural(prompt, 'token')}, but only {count(tokens)} are cached",
            help=f"verify with --tokens {prompt}, or more",
        )
    if prompt > MOST_PROMPT_TOKENS:
        raise InvalidValueError(
            f"policies are run on prompts of at most {count(MOST_PROMPT_TOKENS)} tokens, not {count(prompt)}",
            help=f"verify with --tokens {MOST_PROMPT_TOKENS}",
        )
    return Steps(prompt, tokens - prompt)


class PolicyRun(NamedTuple):
    """A method on the layers of a group, as run."""

    applied: Applied
    steps: Steps
    num_layers: int
    sequences: int
    dtype: torch.dtype
    device: str

    def caches(self, group: LayerGroup) -> Iterator[Caches]:
        """Caches of all layers: the first is run, the others hold what it holds, in separate memory."""
        policy = self._run(group)
        for number in range(len(group.layers)):
            held = policy.held
            yield ({name: State(data if number == 0 else _copied(data)) for name, data in held.items()},)

    def _run(self, group: LayerGroup) -> Policy:
        if len(group.parts) != 1 or not isinstance(group.parts[0], GroupedQueryAttention):
            raise NotApplicableError(
                f"policies are run on plain attention, and the {group.name} layers are {group.label}",
                help="`kvcalc size` predicts it",
            )
        attention = group.parts[0]
        hidden_size = attention.num_query_heads * attention.head_widths[0]
        module = GroupedQueryModule(attention, hidden_size, dtype=self.dtype, device=self.device)
        policy = policy_for(self.applied, Place(attention, group.layers[0], self.num_layers))
        policy.prefill(*self._tokens(module, 0, self.steps.prompt))
        for step in range(self.steps.decode_steps):
            policy.step(*self._tokens(module, self.steps.prompt + step, 1))
        return policy

    def _tokens(self, module: GroupedQueryModule, start: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of random tokens."""
        hidden = torch.randn(self.sequences, tokens, module.hidden_size, dtype=self.dtype, device=self.device)
        positions = torch.arange(start, start + tokens, device=self.device)
        rows = module.project(hidden, positions)
        return module.query(hidden, positions), rows["k"], rows["v"]

    def words(self) -> str:
        """How its tokens arrived."""
        name, steps = self.applied.name, self.steps
        then = f", then {plural(steps.decode_steps, 'token')} one by one" if steps.decode_steps else ""
        return (
            f"{name} was run in the first layer of each kind on a prompt of {plural(steps.prompt, 'token')}{then}; the "
            "other layers hold copies of what it kept"
        )


def _copied(data: Tensor) -> Tensor:
    """A copy in separate memory, as large as that behind the tensor, of which it may be a view."""
    behind = data.untyped_storage().clone()
    return torch.empty(0, dtype=data.dtype, device=data.device).set_(
        behind, data.storage_offset(), data.shape, data.stride()
    )
