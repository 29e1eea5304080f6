"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no network."""

from docutils.nodes import Element, SkipNode
from latex2mathml.converter import convert
from sphinx.writers.html5 import HTML5Translator


def mathml(tex: str, block: bool = False) -> str:
    """A formula of LaTeX's, within a line or as a block."""
    return str(convert(tex, display="block" if block else "inline"))


def inline(self: HTML5Translator, node: Element) -> None:
    """A formula in a line, for Sphinx's writer of HTML."""
    self.body.append(mathml(node.astext()))
    raise SkipNode


def block(self: HTML5Translator, node: Element) -> None:
    """A formula between lines."""
    self.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise SkipNode
