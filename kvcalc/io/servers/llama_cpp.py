"""llama.cpp's `/props` and `/slots`: the context of a slot, the number of slots, and which are busy.

    {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4, "model_path": ..., "build_info": "b7079-..."}

It does not report the size of its cache. `/slots` contains prompts, which are not read.
"""

from __future__ import annotations

import re

from kvcalc.fleet.explain import Load, Reading
from kvcalc.io.servers import Get, Pages, asked, entry, json_of, whole
from kvcalc.report.sheet import Json

PAGES = ("/props", "/slots")
_PROPS, _SLOTS = PAGES
_BUILD = re.compile(r"(b\d{4,6})\b")


def ask(get: Get) -> Pages:
    """Slots only if the server has properties."""
    found = asked(get, (_PROPS,))
    return {**found, **asked(get, (_SLOTS,))} if found else {}


def read(pages: Pages) -> Reading | None:
    """The context of all slots together, and the number of busy ones."""
    props, slots = json_of(pages.get(_PROPS)), json_of(pages.get(_SLOTS))
    each = whole(entry(props, "default_generation_settings", "n_ctx"))
    number = whole(entry(props, "total_slots"))
    if not each or not number:
        return None
    settings: dict[str, Json] = {"n_ctx": each, "n_seq_max": number}
    build, path = entry(props, "build_info"), entry(props, "model_path")
    if isinstance(build, str) and (found := _BUILD.match(build)):
        settings["version"] = found[1]
    busy = [slot for slot in slots if entry(slot, "is_processing") is True] if isinstance(slots, list) else None
    load = Load(running=None if busy is None else len(busy))
    notes = (
        "llama-server reports neither the size of its cache nor whether slots share one context (--kv-unified, its "
        "default since 2025-11 without --parallel)",
    )
    return Reading("llama_cpp", (), settings, {}, path if isinstance(path, str) else "", load=load, notes=notes)
