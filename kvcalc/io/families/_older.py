"""Readings by versions of transformers that did not know a field of config.json, by version rule.

The rules are those of `kvcalc/engines/transformers/versions.py`; the model keeps both readings, since it is read before
a version is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvcalc.io.families._config import Config

_MIMO_WINDOW = 128
"""sliding_window by default, before sliding_window_size was read (5.19 configuration_mimo_v2_flash.py)."""


def older_configs(config: Config) -> Mapping[str, Config]:
    """The config as read without a field, by the rule for the versions that do so."""
    older = _OLDER.get(config.model_type)
    return older(config) if older else {}


def _cohere2(config: Config) -> dict[str, Config]:
    """The full layer is each 4th, unless layer_types says otherwise."""
    if "layer_types" in config or not config.given("sliding_window_pattern"):
        return {}
    return {"reads_cohere2_pattern": config.with_values({"sliding_window_pattern": None})}


def _mimo(config: Config) -> dict[str, Config]:
    if config.given("sliding_window") and not config.given("sliding_window_size"):
        return {}
    window = config.value("sliding_window") if config.given("sliding_window") else _MIMO_WINDOW
    return {"reads_mimo_window_size": config.with_values({"sliding_window_size": None, "sliding_window": window})}


_OLDER: dict[str, Callable[[Config], dict[str, Config]]] = {"cohere2": _cohere2, "mimo_v2_flash": _mimo}
