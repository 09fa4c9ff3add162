"""Rewrites of graph IR, and the way from graphs to loops."""
