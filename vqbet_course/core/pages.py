"""HTML pages: Jinja templates in `vqbet_course/templates/`, which all extend `base.html`."""

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
