"""Families of model types: one file each, with `MODEL_TYPES` and `decoder(config)`.

A family knows how its fields decide what each layer caches. What the classes of transformers do alike (other names of
a field, defaults, where the text part is nested) is data, in `model_types.json`.
"""
