"""From syntax to meaning: a program's text run once at compile time, giving a checked model."""
