"""Configuration of Sphinx; the package that is documented is the installed one."""

from importlib.metadata import version as _version

project = "ipv4batch"
author = "The ipv4batch developers"
copyright = "2026, The ipv4batch developers"
release = version = _version("ipv4batch")

extensions = ["sphinx.ext.autodoc"]
html_theme = "furo"
exclude_patterns = ["_build"]
nitpicky = True
# Types of the standard library, whose own documentation is not fetched: a build needs no network.
nitpick_ignore_regex = [("py:.*", r"(?!ipv4batch).*")]
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_typehints = "none"
