# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

from abc import abstractmethod
from typing import Protocol
from ..imports import types
from ..exports import filter

class Filter(Protocol):

    @abstractmethod
    def describe(self) -> filter.Description:
        """
        What the plugin is. Called when the plugin is loaded.
        """

    @abstractmethod
    def matches(self, event: types.Event, params: str | None) -> bool:
        """
        True: let the event through.

        `params` is what the one who asks gave with the filter's name, valid by `params-schema`; none if nothing was given.
        An error says why there is no answer, for people; where it is the fault of the parameters it begins with `params: `.
        An error, a trap or a passed limit counts as false unless the operator says otherwise.

    Raises: `componentize_py_types.Err[str]`
        """
