"""The colours of every picture: told apart with every kind of colour vision (Okabe & Ito), on white."""

INK, GREY, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, RED, GREEN, PINK, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"

FORWARD, BACK = BLUE, RED
"""Of a graph: values and gradients."""

FILLS = {
    "operation": "#ffffff",
    "parameter": "#fdf3d8",
    "leaf": "#e3f0f8",
    "constant": "#e3f0f8",
    "folded": "#ececec",
}
"""Of a graph's boxes."""
