# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
A filter is a named question about an event, asked for clients, before a handler (where the operator puts one) and at the hub's
door. It has no effects and must give the same answer to the same question: the hub asks once and uses the answer for all who
ask the same.
"""

from dataclasses import dataclass

@dataclass
class Description:
    """
    What the plugin is. It must be the same each time: the host asks once for each version that it loads.
    """
    name: str
    version: str
    summary: str
    params_schema: str | None
    hints: list[tuple[str, str]]
