"""Families of model types: one file each, with `MODEL_TYPES` and `decoder(config, model_type)`."""
