"""Families of model types: one file each, with `MODEL_TYPES`, `decoder(config)` and `UNUSED`.

A family knows how its fields decide what each layer caches. What is common to transformers' classes (aliases of a
field, defaults, nesting of the text part) is data, in `model_types.json`. `UNUSED` names fields of published configs
that look relevant but are not; other such fields that no family reads are named in a size's notes.
"""
