"""From syntax to meaning: a program's text run once at compile time, giving a checked model."""

from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.model import Program, elaborate, elaborate_model, load, pick_model

__all__ = ["Elaborator", "Program", "elaborate", "elaborate_model", "load", "pick_model"]
