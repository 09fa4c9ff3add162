"""From source text to checked models in graph IR."""
