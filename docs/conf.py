"""Sphinx: `make docs` builds docs/_build/html, which opens from a folder and needs no network."""

import importlib.util
import os
import sys
from pathlib import Path

from priory._version import __version__

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # for the two extensions that lie here
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the kernels that execute the tutorials

project = "priory"
author = "The priory developers"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "myst_nb", "_docstrings", "_pages"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb"}

# MathJax as one file that draws with SVG: it loads no fonts, so it works from file:// too.
_mathjax = next(iter(importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations))
html_static_path = ["_static", f"{_mathjax}/static/mathjax/tex-svg.js"]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load further files

html_theme = "pydata_sphinx_theme"
html_title = "priory"
html_sidebars = {"gallery": [], "index": []}  # they have no pages below them
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # without it, the first page logs an error in the browser's console
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4

# Tutorials run once for each change of their code, in about four minutes of one core. PRIORY_DOCS_EXECUTE=one runs the
# chapter in code alone, as CI does; PRIORY_DOCS_EXECUTE=off shows all of them without outputs.
execute = os.environ.get("PRIORY_DOCS_EXECUTE", "all")
nb_execution_mode = "off" if execute == "off" else "cache"
others = [path.relative_to(DOCS) for path in DOCS.glob("*/*.md") if path.stem != "book_chapter"]
nb_execution_excludepatterns = [f"*{path}" for path in others] if execute == "one" else []
nb_execution_cache_path = str(DOCS / "_build" / "notebooks")
nb_execution_timeout = 1800  # for one cell, on a machine that has other work
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_ipywidgets_js = {}  # they would come from a server
nb_merge_streams = True

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 90
