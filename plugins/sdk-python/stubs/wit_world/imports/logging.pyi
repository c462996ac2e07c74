# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
Lines for whoever runs the hub. Needs no grant. The host adds the plugin's name, its version and the event.
"""

from enum import Enum

class Level(Enum):
    """
    How much it matters.
    """
    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4

def log(level: Level, message: str) -> None:
    """
    Writes one line. It never fails: a line is cut at 4 KiB, more than 100 lines a second from a plugin are dropped and
    counted, control characters are escaped. Lines stay even when the call fails.
    """
