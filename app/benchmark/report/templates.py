"""The templates of reports."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_SHARED = "app.benchmark.report"


@cache
def report_template(package: str) -> Template:
    """Return `report.html` of a package, which may include the files of this one.

    Whatever a template inserts is escaped, and a name that it does not get is an error.
    """
    # Not at the top: a service that only queues jobs does not need Jinja2 in memory.
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(_SHARED, ".")]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
