# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.

"""
Settings that the operator gave this plugin. Asked for as `config`, granted key by key.

A plugin may say what it understands with the hint `config-schema`.
"""

def get(key: str) -> str | None:
    """
    The value of a setting as text. None: not set, or not granted.
    """
