# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
Publish from inside a handler. Asked for as `publish`, granted by event type.

The events go to the call's outbox. They are published together once the call has returned ok, in the order given, and thrown
away if it fails. The outbox of a call holds 64 events and 256 KiB.
"""

from dataclasses import dataclass
from enum import Enum
from ..imports import types

class PublishCode(Enum):
    """
    Which kind of refusal.
    """
    DENIED = 0
    LIMIT = 1
    INVALID = 2

@dataclass
class PublishError:
    """
    Why an event was not taken into the outbox. The call goes on; what was taken before stays.
    """
    code: PublishCode
    message: str

def publish(event: types.NewEvent) -> str:
    """
    Puts an event into the outbox and returns the id (UUIDv7) that it will have.

    Raises: `componentize_py_types.Err(wit_world.imports.publisher.PublishError)`
    """
