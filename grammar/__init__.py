"""The grammar of model files."""
