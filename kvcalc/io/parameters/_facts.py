"""Sizes and switches of a config.json, by the words that descriptions of classes use, and which fields were read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from kvcalc.errors import NotApplicableError
from kvcalc.errors.foreign import listed
from kvcalc.io.families._config import Config
from kvcalc.io.parameters._harmless import is_harmless
from kvcalc.units import shown

_FIELDS = {
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_rank": "kv_lora_rank",
    "q_rank": "q_lora_rank",
    "nope": "qk_nope_head_dim",
    "rope": "qk_rope_head_dim",
    "v_head": "v_head_dim",
    "experts": "num_experts",
    "expert_ffn": "moe_intermediate_size",
    "shared": "n_shared_experts",
    "shared_ffn": "shared_expert_intermediate_size",
    "picked": "num_experts_per_tok",
    "index_heads": "index_n_heads",
    "index_head": "index_head_dim",
    "k_heads": "linear_num_key_heads",
    "v_heads": "linear_num_value_heads",
    "k_dim": "linear_key_head_dim",
    "v_dim": "linear_value_head_dim",
    "kernel": "linear_conv_kernel_dim",
}
"""Fields of sizes, as most classes call them."""
_NONE: Mapping[str, str] = {}

Sizes = Callable[[str], int]
Derived = Mapping[str, Callable[[Sizes], int]]
_DERIVED: Derived = {
    "q": lambda size: size("heads") * size("head_dim"),
    "kv": lambda size: size("kv_heads") * size("head_dim"),
    "qkv": lambda size: size("q") + 2 * size("kv"),
    "latent_q": lambda size: size("heads") * (size("nope") + size("rope")),
    "latent_kv": lambda size: size("kv_rank") + size("rope"),
    "heads_kv": lambda size: size("heads") * (size("nope") + size("v_head")),
    "heads_v": lambda size: size("heads") * size("v_head"),
    "keys": lambda size: size("k_heads") * size("k_dim"),
    "values": lambda size: size("v_heads") * size("v_dim"),
    "convolved": lambda size: 2 * size("keys") + size("values"),
    "keys_and_values": lambda size: 2 * size("keys") + 2 * size("values"),
    "shared_experts_ffn": lambda size: size("shared") * size("expert_ffn"),
}
"""Sizes that follow from others."""
_NO_SIZES: Mapping[str, int] = {}


class Facts:
    """What descriptions of classes ask of a config: sizes by their words, and switches by their fields.

    own: fields of sizes that the class calls otherwise than most. ignored: fields of published configs that the class
    does not read. derived: sizes that follow from others. given: sizes from elsewhere. Sizes are whole numbers of at
    least 1, else errors.
    """

    def __init__(
        self,
        config: Config,
        own: Mapping[str, str] = _NONE,
        ignored: Collection[str] = (),
        derived: Derived = _DERIVED,
        given: Mapping[str, int] = _NO_SIZES,
    ) -> None:
        self._config = config
        self._ignored = ignored
        self._derived = derived
        self._given = given
        self._fields = {**_FIELDS, **own}

    def size(self, word: str) -> int:
        """A size, or what follows from several."""
        if word in self._given:
            return self._given[word]
        return self._derived[word](self.size) if word in self._derived else self._of_field(word)

    def picked(self) -> int:
        """Routed experts that a token passes; 0 if the config does not say."""
        number = self.value(self._fields["picked"])
        return number if type(number) is int else 0

    def value(self, field: str) -> object:
        """The value of a field, or the default of its class."""
        value = self._config.value(field)
        return self._config.entry.defaults.get(field) if value is None and field not in self._config.values else value

    def holds(self, condition: str) -> bool:
        """Whether `field` is true or a size, or `not field` that it is not. An empty condition holds."""
        field = condition.removeprefix("not ")
        if not condition:
            return True
        value = self.value(field)
        if value is not None and type(value) is not bool and (type(value) is not int or value < 1):
            raise NotApplicableError(f"{field} is {shown(value)}", help="")
        return bool(value) == (field == condition)

    def unread(self) -> str:
        """Fields of the config that no description read and that may shape a tensor; empty without any."""
        names = [name for name, value in self._config.values.items() if self._may_matter(name, value)]
        return listed(tuple(names)) if names else ""

    def left_out(self) -> Iterator[tuple[str, int]]:
        """Sizes that the config leaves out, as its class has them by default."""
        for field in self._config.defaulted:
            value = self.value(field)
            if type(value) is int:
                yield field, value

    def _of_field(self, word: str) -> int:
        if word in ("kv_heads", "head_dim") or word not in self._fields:
            return self._of_heads(word)
        field = self._fields[word]
        if self._config.value(field) is None and type(default := self.value(field)) is int:
            self._config.defaulted[field] = default  # the class names the field otherwise than its default
            return default
        return self._config.integer(field)

    def _of_heads(self, word: str) -> int:
        if word == "kv_heads":
            return self._config.integer_or("num_key_value_heads", None) or self.size("heads")
        return self._config.integer_or("head_dim", None) or self.size("hidden") // self.size("heads")

    def _may_matter(self, name: str, value: object) -> bool:
        is_known = name in self._config.asked or name in self._config.entry.defaults or name in self._ignored
        return not is_known and value not in (None, False, 0, [], {}) and not is_harmless(name, value)
