# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

from abc import abstractmethod
from typing import Protocol
from ..imports import types
from ..exports import handler

class Handler(Protocol):

    @abstractmethod
    def describe(self) -> handler.Description:
        """
        What the plugin is and wants. Called when the plugin is loaded, without any capability: `publish` and `kv` are denied.
        """

    @abstractmethod
    def handle(self, event: types.Event, delivery: handler.Delivery) -> None:
        """
        Handles one event.

        All or nothing: what it published and what it wrote to `kv` counts only if this returns ok. After a failure, a trap or
        a passed limit it leaves no trace, and the host tries again or dead-letters the event.

        Raises: `componentize_py_types.Err(wit_world.imports.types.Failure)`
        """
