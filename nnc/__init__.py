"""A small language for neural networks, and its compiler."""
