# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

from dataclasses import dataclass
from typing import Generic, TypeVar

E = TypeVar("E")

@dataclass(frozen=True)
class Err(Generic[E], Exception):
    """What an import raises, and an export, where the contract has an error."""

    value: E
