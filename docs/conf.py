"""The documentation as web pages: `make docs` writes them to docs/_build."""

project = "nnc"
author = "the nnc authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "nnc"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
