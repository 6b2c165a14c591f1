"""HTML pages: Jinja templates in `vqbet_course/templates/`, which all extend `base.html`."""

from collections.abc import Mapping, Sequence
from typing import Any


def render(template: str, **values: Any) -> str:
    """A page from the template of this name; values are escaped, and one that the template lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vqbet_course"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """An HTML table of rows {column: value}, all with the columns of the first; it scrolls where the page is narrow."""
    return render("table.html", rows=list(rows))
