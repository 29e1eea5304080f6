"""What Sphinx is told: `python -m docs` runs it."""

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from docs import api, mathml, pairs, prose
from microgradx import __version__

project, author, release = "microgradx", "The microgradx developers", __version__
copyright = author  # noqa: A001 - Sphinx's name
extensions = ["sphinx.ext.autodoc", "myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nitpicky = True
suppress_warnings = ["myst.header"]  # sections of the README are pages
exclude_patterns = ["_*"]
maximum_signature_line_length = 70
autodoc_typehints = "none"  # spelled out, those of arrays fill a screen
autodoc_preserve_defaults = True
html_theme, html_title = "furo", "microgradx"
html_static_path, html_css_files = ["static"], ["site.css"]
html_copy_source = html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"}
}


class Names(SphinxTransform):
    """Code that is a public name becomes a link to where it is described."""

    default_priority = 400

    def apply(self) -> None:
        """Called by Sphinx for each page."""
        for node in list(self.document.findall(nodes.literal)):
            full = api.names().get(node.astext().split("(")[0])
            if full and not isinstance(node.parent, nodes.reference | addnodes.pending_xref):
                link = addnodes.pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=full, refexplicit=True, refwarn=True
                )
                link["classes"].append("name")
                node.replace_self(link)
                link += node


def docstring(app: Sphinx, what: str, name: str, x: object, options: object, lines: list[str]) -> None:
    """Our style of docstrings, for autodoc."""
    lines[:] = prose.restructured(lines, prose.parameters(x))


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", docstring)
    app.add_transform(Names)
    app.add_directive("pair", pairs.Pair)
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    return {"parallel_read_safe": True}
