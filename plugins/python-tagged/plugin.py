"""Lets through the events that have a tag: `urgent`, or the one in its parameters."""

from typing import Any

from busway import Event, Filter, Refuse, log

about = Filter(
    name="python-tagged",
    version="0.1.0",
    summary="True for events that have a tag",
    params_schema={"type": "object", "properties": {"tag": {"default": "urgent"}}},
)


calls = 0
"""Of this instance."""


def matches(event: Event, params: Any) -> bool:
    global calls
    calls += 1
    log.debug(f"asking about {event.type}, call {calls}")
    tag = params.get("tag", "urgent")
    if not isinstance(tag, str):
        raise Refuse(f'params: expected {{"tag": string}}, found {params}')
    return tag in event.metadata.tags
