"""GGUF, the file format of llama.cpp: from its metadata to a Model.

Every architecture of llama.cpp is read by llama.cpp's rules; a file that it would not load is refused. What a layer
caches depends on the engine: a GGUF model can be sized in any of them.
"""

from __future__ import annotations

from kvcalc.engines.llama_cpp.architectures import MODEL_TYPES, model_type_of
from kvcalc.errors import UnknownArchitectureError
from kvcalc.errors.foreign import name_shown
from kvcalc.io.documents import Document
from kvcalc.io.gguf.layers import decoder
from kvcalc.io.gguf.metadata import Metadata
from kvcalc.io.gguf.widths import widths_of
from kvcalc.model import Model, group_layers
from kvcalc.model.checkpoint import Checkpoint
from kvcalc.units import shown

ARCHITECTURE, NAME = "general.architecture", "general.name"
_DECIDING = (
    *("attention.head_count_kv", "attention.key_length", "attention.sliding_window", "attention.kv_lora_rank"),
    *("attention.key_length_mla", "attention.indexer.key_length", "ssm.state_size", "wkv.head_size", "kda.head_dim"),
    *("shortconv.l_cache", "attention.shared_kv_layers", "attention.recurrent_layers", "attention.compress_ratios"),
)
"""Keys that decide what is cached if read, and are reported if not."""


def parse_gguf(document: Document, name: str) -> Model:
    """Model of GGUF metadata, called by its general.name or else `name`.

    Raises UnknownArchitectureError for an architecture that llama.cpp does not run, InvalidValueError for a bad value.
    """
    architecture = document.data.get(ARCHITECTURE)
    if not isinstance(architecture, str) or architecture not in MODEL_TYPES:
        raise _unknown(document, architecture)
    metadata = Metadata(document, architecture)
    if metadata.whole("ple.conv_kernel"):
        raise metadata.wrong(
            "ple.conv_kernel", "keeps a history of per-layer embeddings, whose size is unknown", "use another engine"
        )
    read = decoder(metadata)
    parts = {group: layer.parts for group, layer in read.layers.items()}
    origins = {group: layer.origins for group, layer in read.layers.items()}
    longest = metadata.whole("context_length")
    own_name = document.data.get(NAME)
    return Model(
        name=name_shown(own_name if isinstance(own_name, str) and own_name.strip() else name),
        groups=group_layers(read.layer_names, parts, origins),
        model_type=model_type_of(architecture),
        source=document.name,
        max_model_len=longest or None,
        notes=(*read.notes, *_not_read(metadata)),
        origins={"num_layers": read.num_layers_origin},
        draft_groups=group_layers(read.drafts, parts, origins, first=len(read.layer_names)),
        checkpoint=Checkpoint(widths=widths_of(metadata)),
    )


def _not_read(metadata: Metadata) -> tuple[str, ...]:
    keys = [key for name in _DECIDING if (key := metadata.key(name)) not in metadata.asked and metadata.values.get(key)]
    return (f"keys that llama.cpp does not read for this architecture: {', '.join(keys)}",) if keys else ()


def _unknown(document: Document, architecture: object) -> UnknownArchitectureError:
    from difflib import get_close_matches

    near = ", ".join(get_close_matches(str(architecture), MODEL_TYPES, n=3, cutoff=0.6))
    return UnknownArchitectureError(
        f"llama.cpp has no language model of the architecture {shown(architecture)}",
        where=document.where((ARCHITECTURE,)),
        help=f"{f'nearest known: {near}; ' if near else ''}write its facts as a preset (`kvcalc schema preset`) and "
        "pass that with --model",
    )
