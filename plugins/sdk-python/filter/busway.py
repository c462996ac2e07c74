"""Write Busway filters in Python. A plugin's `plugin.py` has `about` (a `Filter`) and `def matches(event: Event, params: Any) -> bool`.

`Refuse` says why there is no answer, any other exception does with its text. Where it is the fault of the parameters, begin with "params: ".
"""

from dataclasses import dataclass, field
from typing import Any

from busway_event import Event, Metadata, log

__all__ = ["Event", "Filter", "Metadata", "Refuse", "log"]


@dataclass
class Filter:
    """What the plugin is. Parameters that were not given are {}."""

    name: str
    version: str
    summary: str
    params_schema: dict[str, Any] | None = None
    hints: dict[str, Any] = field(default_factory=dict)


class Refuse(Exception):
    """There is no answer."""
