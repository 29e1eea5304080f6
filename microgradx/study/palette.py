"""The colours of a graph: two that keep apart for every kind of colour vision (Okabe & Ito), pale fills."""

FORWARD, BACK, INK, FAINT = "#0072B2", "#D55E00", "#222222", "#6b6b6b"

FILLS = {
    "operation": "#ffffff",
    "parameter": "#fdf3d8",
    "leaf": "#e3f0f8",
    "constant": "#e3f0f8",
    "folded": "#ececec",
}
