"""Data sets: what they are read from, in which order their rows are drawn, and how far ahead."""
