"""Lets through orders from a given total on."""

from typing import Any

from busway import Event, Filter, Refuse

about = Filter(
    name="my-plugin",
    version="0.1.0",
    summary="True for orders of at least `min`",
    params_schema={"type": "object", "properties": {"min": {"type": "number", "default": 100}}},
)


def matches(event: Event, params: Any) -> bool:
    match params:
        case {"min": int() | float() as least}:
            pass
        case {"min": _}:
            raise Refuse(f'params: expected {{"min": number}}, found {params}')
        case _:
            least = 100
    match event.data:
        case {"total": int() | float() as total}:
            return total >= least
    return False
