"""Formulas of the lessons as SVG, so that a page shows them without a network: matplotlib reads and draws the TeX."""

import html
import re

MATH = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<shown>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$\n]+?)\$(?!\w)", re.DOTALL
)
WORDS = {  # what matplotlib reads otherwise, or does not need
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    r"\Bigl": "",
    r"\Bigr": "",
    r"\bigl": "",
    r"\bigr": "",
    r"\!": "",
    r"\;": r"\ ",
    r"\le ": r"\leq ",
    r"\ge ": r"\geq ",
    r"\arg\min": r"\mathrm{arg\,min}",
    r"\mathcal D": r"\mathcal{D}",
    "&": "",
}
LETTERS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # of matplotlib's path codes
EM = 100.0  # units of a drawing


def with_formulas(markdown: str) -> str:
    """Markdown with its formulas drawn; those in code stay as they are."""

    def drawn(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["shown"]:
            return f'<div class="formula" tabindex="0">{formula_svg(match["shown"])}</div>'
        return formula_svg(match["inline"])

    return MATH.sub(drawn, markdown)


def formula_svg(tex: str) -> str:
    """A formula as an SVG in the colour of the text around it; as its TeX where matplotlib cannot read it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    tex = " ".join(tex.split())
    words = html.escape(tex)
    readable = tex
    for name, other in WORDS.items():
        readable = readable.replace(name, other)
    font = FontProperties(family="serif", math_fontfamily="stix")
    try:
        path = TextPath((0, 0), f"${readable}$", size=EM, prop=font)
    except ValueError:
        return f'<code class="formula">{words}</code>'
    steps = [
        LETTERS[int(code)] + ("" if code == 79 else " ".join(f"{x:.0f}" for x in points))
        for points, code in path.iter_segments(simplify=False)
    ]
    box = path.get_extents()
    x, top, width, height = box.x0 - 4, -box.y1 - 4, box.width + 8, box.height + 8
    size = f"width:{width / EM:.2f}em;height:{height / EM:.2f}em;vertical-align:{(box.y0 - 4) / EM:.2f}em"
    return (
        f'<svg role="img" aria-label="{words}" style="{size}" viewBox="{x:.0f} {top:.0f} {width:.0f} {height:.0f}">'
        f'<path transform="scale(1,-1)" fill="currentColor" d="{"".join(steps)}"/></svg>'
    )
