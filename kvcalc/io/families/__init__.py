"""Families of model types: one file each, with `MODEL_TYPES`, `decoder(config)` and `UNUSED`.

A family knows how its fields decide what each layer caches. What the classes of transformers do alike (other names of
a field, defaults, where the text part is nested) is data, in `model_types.json`. `UNUSED` names fields of published
configs that look as if they decided and do not; any other such field that no family reads is named in a size's notes.
"""
