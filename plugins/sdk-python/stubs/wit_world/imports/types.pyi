# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
What an event is, the same for every plugin and every language.

Sizes are in bytes of UTF-8. What the host passes in keeps to them; what a plugin passes out is checked.
"""

from dataclasses import dataclass
from enum import Enum

@dataclass
class Metadata:
    """
    What the hub knows of an event besides its data. Written by the host; a plugin cannot forge it.
    """
    event_id: str
    timestamp: int
    correlation_id: str | None
    causation_id: str | None
    source: str | None
    tags: list[str]
    hops: int
    extensions: list[tuple[str, str]]

@dataclass
class Event:
    """
    One event as it stands in the log. It never changes; to change what others see, a handler emits another one.
    """
    seq: int
    type: str
    data: str
    metadata: Metadata

@dataclass
class NewEvent:
    """
    An event that a plugin hands to the host to publish. The host adds id, time, source, causation and hops.
    """
    type: str
    data: str
    tags: list[str]
    correlation_id: str | None
    extensions: list[tuple[str, str]]

@dataclass
class Subscription:
    """
    Which events a handler wants, so that the host never calls it for any other. Criteria are ANDed; an empty list is no
    constraint. Globs match the whole text: `*` any run of characters (also none, also dots), `?` one character.
    """
    event_types: list[str]
    source_patterns: list[str]
    required_tags: list[str]
    excluded_tags: list[str]

class FailureKind(Enum):
    """
    What the host should do about an event that was not handled.
    """
    RETRY = 0
    REJECT = 1

@dataclass
class Failure:
    """
    Why a handler did not handle an event. (A trap counts as `retry`, with the trap as its message.)
    """
    kind: FailureKind
    message: str
    retry_after_ms: int | None
