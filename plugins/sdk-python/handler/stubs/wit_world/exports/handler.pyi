# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
A handler is called once for each event it subscribed to (again after a failure, see `delivery.attempt`).
"""

from dataclasses import dataclass
from ..imports import types

@dataclass
class Description:
    """
    What the plugin is and wants. It must be the same each time: the host asks once for each version that it loads.
    """
    name: str
    version: str
    summary: str
    subscriptions: list[types.Subscription]
    emits: list[str]
    capabilities: list[str]
    hints: list[tuple[str, str]]

@dataclass
class Delivery:
    """
    Facts about this call, as opposed to the event.
    """
    attempt: int
