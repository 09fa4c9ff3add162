"""Targets: each turns a program of loops into code that the runtime can call."""
