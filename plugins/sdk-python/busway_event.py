"""What handlers and filters in Python have in common. Import it from `busway`."""

import inspect
import json
from functools import cached_property
from typing import Any

from wit_world.imports import logging as _logging
from wit_world.imports import types as _types

Metadata = _types.Metadata


class Event:
    """One event as it stands in the log."""

    seq: int
    type: str
    text: str
    """The data as JSON, exactly as it was published."""
    metadata: Metadata

    def __init__(self, event: _types.Event) -> None:
        self.seq, self.type, self.text, self.metadata = event.seq, event.type, event.data, event.metadata

    @cached_property
    def data(self) -> Any:
        """The data read from JSON."""
        return json.loads(self.text)


class log:
    """One line for the operator: `log.info("…")`."""

    @staticmethod
    def trace(line: str) -> None:
        _logging.log(_logging.Level.TRACE, line)

    @staticmethod
    def debug(line: str) -> None:
        _logging.log(_logging.Level.DEBUG, line)

    @staticmethod
    def info(line: str) -> None:
        _logging.log(_logging.Level.INFO, line)

    @staticmethod
    def warn(line: str) -> None:
        _logging.log(_logging.Level.WARN, line)

    @staticmethod
    def error(line: str) -> None:
        _logging.log(_logging.Level.ERROR, line)


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_async(given: Any) -> bool:
    """A call is over when the plugin's function returns: what it would do later is never done."""
    if inspect.iscoroutine(given):
        given.close()  # or Python would warn that nobody waits for it
    return inspect.isawaitable(given) or inspect.isasyncgen(given)


def no_async(name: str) -> str:
    return f"expected a plain function, found an async one: nobody waits for what {name} returns"


def explain(error: BaseException) -> str:
    """What it was and where: all that the operator will see of it."""
    last = error.__traceback__  # not with the module traceback: it looks for the source, and there are no files
    while last and last.tb_next:
        last = last.tb_next
    where = f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def hints(values: dict[str, Any]) -> list[tuple[str, str]]:
    # A Python instance starts slowly: unless the plugin says otherwise, it is kept.
    return [(name, to_json(value)) for name, value in {"isolation": "reuse", **values}.items()]
