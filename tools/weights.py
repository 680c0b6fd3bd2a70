"""Writes presets/weights/*.tsv: which tensors the checkpoint of each preset has, by the classes of transformers.

    python tools/weights.py CONFIGS [NAME...]

CONFIGS is a folder with NAME.json, the config.json of each preset, and sources.tsv: name, repository, and where the
config was found. It needs what `pip install -e '.[dev]'` installs; classes are built on the meta device, a few seconds
each. The fields of a config that its tensors depend on are written into the file, so that the tests can build the class
once more. A preset without a config, or whose class transformers does not have, gets no file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvcalc.errors import NotApplicableError
from kvcalc.io.weights.inventories import FOLDER, inventory_text
from kvcalc.model.checkpoint import Inventory, WeightTensor
from kvcalc.verify.transformers.classes import class_name
from kvcalc.verify.transformers.inventory import inventory
from kvcalc.verify.transformers.mtp import with_mtp

PRESETS = Path(__file__).parent.parent / "presets"
Values = dict[str, Any]
_LONGCAT_IN_CLASS, _LONGCAT_SHAPE = (768, 4096, 6144), (512, 4096, 6144)
_UNREAD = "the checkpoint has {} parameters more: K and V of layers that read another layer's, which no engine reads"
REMARKS = {
    "step-3.7-flash": "without layers of multi-token prediction: not established",
    "step-3.5-flash": "the class has a tower besides, which this model does not have",
    "gemma-3n-e4b": "the text model alone, without its towers",
    "mistral-small-4": "the text model alone",
    "gemma-4-e2b": _UNREAD.format("18,880,512"),
    "gemma-4-e4b": _UNREAD.format("55,055,616"),
}
"""What a file does not have, or its checkpoint has more."""
TEXT_ALONE = ("step-3.5-flash",)
"""Presets without the tower that their class has."""
KEPT_IN_FLOAT32 = {
    "DeepseekV3ForCausalLM": r"e_score_correction_bias",
    "DeepseekV32ForCausalLM": r"e_score_correction_bias",
    "DeepseekV4ForCausalLM": r"(attn|ffn)_hc\.|hc_head\.|sinks|position_bias|e_score_correction_bias",
    "NemotronHForCausalLM": r"e_score_correction_bias",
}
"""Tensors that published checkpoints have in float32, as the counts of the hub by format say."""
STORED_TWICE = {
    "falcon-7b": "tiiuae/falcon-7b",
    "falcon-40b": "tiiuae/falcon-40b",
    "gemma-4-26b-a4b": "google/gemma-4-26B-A4B",
    "gemma-4-31b": "google/gemma-4-31B",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
}
"""Presets whose repository stores the tied logits a second time."""
_NO_SHAPE = re.compile(
    r"_?(name_or_path|commit_hash|transformers_version|architectures|dtype|torch_dtype|quantization_config|auto_map)|"
    r"\w*(token_id|token_index|token_ids|eps|dropout|drop|pdrop|theta|rope\w*|init\w*|_range|std|scale|scaling|factor|"
    r"coef|softcapping|softcap|length|positions?|norm_topk_prob|use_cache|max_window_layers|sliding_window|act|activation|"
    r"task_specific_params|id2label|label2id|problem_type|pretraining_tp|multiplier\w*|limit|alpha|beta|version|method|"
    r"func|freq|implementation|summary\w*|interleave\w*|backend|kernels?|chunk_size\w*|output_\w+|return_\w+)"
)


def main(folder: str, *names: str) -> None:
    """Writes the files, and says which presets have none and why."""
    lines = (line.split("\t") for line in Path(folder, "sources.tsv").read_text().splitlines())
    sources = {name: rest for name, *rest in lines}
    (PRESETS / FOLDER).mkdir(exist_ok=True)
    for path in sorted(PRESETS.glob("*.yaml")):
        name = path.stem
        config = Path(folder, f"{name}.json")
        if name == "gpus" or (names and name not in names):
            continue
        if name not in sources or not config.is_file():
            print(f"{name}: no config")
            continue
        try:
            (PRESETS / FOLDER / f"{name}.tsv").write_text(text_of(name, json.loads(config.read_text()), *sources[name]))
        except NotApplicableError as error:
            print(f"{name}: {error}")


def text_of(name: str, values: Values, repository: str, source: str) -> str:
    """The file of a preset."""
    tensors = checkpoint_of(values)
    if name in TEXT_ALONE:
        tensors = tensors._replace(tensors=tuple(row for row in tensors.tensors if row.part != "vision"))
    small = needed(values)
    remarks = [f"config: {json.dumps(small, sort_keys=True)}", f"config from: {source}", *_remarks(name, tensors)]
    return inventory_text(tensors, repository, remarks)


def _remarks(name: str, tensors: Inventory) -> Iterator[str]:
    if name in REMARKS:
        yield REMARKS[name]
    if name in STORED_TWICE:
        head = next(row for row in tensors.tensors if row.part == "head")
        shape = "x".join(map(str, head.shape))
        yield f"{STORED_TWICE[name]} stores {head.name} ({shape}) as well, which is tied: engines keep it once"
    if tensors.source.startswith("LongcatFlash"):
        yield "the class has rows of gate_up_proj for its 256 experts that compute nothing; the checkpoint has the 512"


def checkpoint_of(values: Values) -> Inventory:
    """What the published checkpoint has: the tensors of the class, in their formats, and its extra layers."""
    own = inventory(values)
    pattern = KEPT_IN_FLOAT32.get(own.source.partition(" ")[0])
    rows = tuple(map(_stored, own.tensors))
    if pattern:
        rows = tuple(row._replace(dtype="F32") if re.search(pattern, row.name) else row for row in rows)
    return with_mtp(own._replace(tensors=rows), values)


def _stored(row: WeightTensor) -> WeightTensor:
    """A tensor as it is stored: longcat_flash counts experts that compute nothing into the rows of one tensor."""
    return row._replace(shape=_LONGCAT_SHAPE) if row.shape == _LONGCAT_IN_CLASS else row


def needed(values: Values) -> Values:
    """The fields of a config that its tensors depend on: without any other the class has the same ones."""
    name = class_name(values.get("model_type"), values.get("architectures"))
    want = checkpoint_of(values)
    always = {"model_type": values["model_type"], "architectures": [name]}
    small = _pruned(values) | always
    if _checkpoint(small) != want:
        small = {**values, **always}
    for field in [field for field in small if field not in ("model_type", "architectures")]:
        rest = {key: value for key, value in small.items() if key != field}
        if _checkpoint(rest) == want:
            small = rest
        elif isinstance(small[field], dict):
            small = _section_needed(small, field, want)
    return small


def _section_needed(values: Values, section: str, want: Inventory) -> Values:
    """The same for the fields of a section."""
    for field in [field for field in values[section] if field != "model_type"]:
        rest = {**values, section: {key: value for key, value in values[section].items() if key != field}}
        if _checkpoint(rest) == want:
            values = rest
    return values


def _checkpoint(values: Values) -> Inventory | None:
    try:
        return checkpoint_of(values)
    except (NotApplicableError, StopIteration, ValueError):
        return None


def _pruned(values: Mapping[str, Any]) -> Values:
    """Fields that may shape a tensor."""
    kept = {key: value for key, value in values.items() if value is not None and not _NO_SHAPE.fullmatch(key)}
    return {key: _pruned(value) if isinstance(value, dict) else value for key, value in kept.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
