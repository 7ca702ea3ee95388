"""Plots as SVG files, with nothing but the standard library: bars for rows, lines for curves."""

from xml.sax.saxutils import escape

COLOURS = ("#3b6ea8", "#c8553d", "#5b8e3e", "#8a5aa3", "#c9952b", "#4a9a9a", "#7d7d7d", "#b04a7a", "#2f4858", "#94a13c",
           "#6c4f3d", "#1b998b")


def _head(width, height, title):
    return [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="10" y="20" font-size="15">{escape(title)}</text>']


def bars(title, rows, unit):
    """rows: (label, [(series, value or None), ...]). Horizontal bars, each with its value."""
    series = []
    for _, values in rows:
        series += [name for name, _ in values if name not in series]
    most = max([value for _, values in rows for _, value in values if value] or [1])
    left, width, bar = 250, 900, 13
    height = 60 + sum(len(values) * bar + 8 for _, values in rows) + 20 * ((len(series) + 5) // 6)
    out = _head(width, height, title)
    y = 40
    for label, values in rows:
        out.append(f'<text x="{left - 6}" y="{y + bar * len(values) / 2 + 4:.0f}" text-anchor="end">{escape(label)}</text>')
        for name, value in values:
            colour = COLOURS[series.index(name) % len(COLOURS)]
            if value:
                length = max(1.0, (width - left - 110) * value / most)
                out.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{colour}"/>')
                out.append(f'<text x="{left + length + 4:.1f}" y="{y + bar - 3}" font-size="10">{value:.4g} {escape(unit)}</text>')
            y += bar
        y += 8
    for i, name in enumerate(series):
        x, row = 10 + i % 6 * 148, y + 12 + i // 6 * 20
        out.append(f'<rect x="{x}" y="{row - 10}" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(f'<text x="{x + 14}" y="{row}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>\n"])


def lines(title, curves, x_label, y_label):
    """curves: {name: [(x, y), ...]}."""
    width, height, left, bottom, right = 900, 420, 70, 380, 700
    most_x = max([x for points in curves.values() for x, _ in points] or [1]) or 1
    most_y = max([y for points in curves.values() for _, y in points] or [1]) or 1
    out = _head(width, height, title)
    out.append(f'<path d="M{left} 40V{bottom}H{right}" fill="none" stroke="black"/>')
    out.append(f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{escape(x_label)}, to {most_x:.4g}</text>')
    out.append(f'<text x="{left + 6}" y="48">{escape(y_label)}, to {most_y:.4g}</text>')
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{left + (right - left) * x / most_x:.1f},{bottom - (bottom - 60) * y / most_y:.1f}"
                        for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<rect x="{right + 12}" y="{52 + 20 * i}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{right + 26}" y="{61 + 20 * i}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>\n"])
