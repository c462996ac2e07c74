# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
A plugin's own memory: it outlives calls, reloads and restarts, and no other plugin sees it. Asked for as `kv`.

A call reads what was committed, and its own writes. Its writes commit together with what it published, or not at all. Where two
calls touched the same keys at once, the later one is run again from the start.

A plugin has 1 MiB, keys and values together, and 1,000 keys. A key has at most 256 bytes.

An error says why, for people: not granted, over the quota, key too long, not a number.
"""

def get(key: str) -> bytes | None:
    """
    The value at the key; none if there is none.

    Raises: `componentize_py_types.Err[str]`
    """
def set(key: str, value: bytes) -> None:
    """
    Puts the value at the key, in place of what was there. Any bytes; an error if that goes over the quota.

    Raises: `componentize_py_types.Err[str]`
    """
def delete(key: str) -> None:
    """
    Removes the key. Ok also if there is none.

    Raises: `componentize_py_types.Err[str]`
    """
def keys(prefix: str, after: str | None) -> list[str]:
    """
    Keys that begin with `prefix` (all keys: the empty prefix), in the order of their bytes, after `after` (none: from the first);
    at most 1,000.

    Raises: `componentize_py_types.Err[str]`
    """
def increment(key: str, delta: int) -> int:
    """
    Adds to the number at the key (0 if there is none; stored as decimal text) and returns the sum. An error if what is there is
    not a whole number, or the sum does not fit.

    Raises: `componentize_py_types.Err[str]`
    """
