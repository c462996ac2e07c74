"""Write Busway handlers in Python. A plugin's `plugin.py` has `about` (a `Handler`) and `def handle(event: Event, attempt: int) -> None`.

What is published and written counts only if `handle` returns. `Retry` and `Reject` say what is to become of an event that was not handled;
any other exception is a retry with its text.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from componentize_py_types import Err as _Err
from wit_world.imports import config as _config
from wit_world.imports import kv as _kv
from wit_world.imports import publisher as _publisher
from wit_world.imports import types as _types

from busway_event import Event, Metadata, log, to_json

__all__ = ["Event", "Handler", "Metadata", "PublishError", "Reject", "Retry", "Subscription", "config", "kv", "log", "publish"]


@dataclass
class Subscription:
    """All that is given has to match; see `subscription` in the contract."""

    event_types: list[str] = field(default_factory=list)
    source_patterns: list[str] = field(default_factory=list)
    required_tags: list[str] = field(default_factory=list)
    excluded_tags: list[str] = field(default_factory=list)


@dataclass
class Handler:
    """What the plugin is and wants. A subscription may be just a glob of event types."""

    name: str
    version: str
    summary: str
    subscriptions: list[str | Subscription]
    emits: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    hints: dict[str, Any] = field(default_factory=dict)


class Reject(Exception):
    """It will never work: the event becomes a dead letter at once."""


class Retry(Exception):
    """It may work later."""

    def __init__(self, message: str, after_ms: int | None = None) -> None:
        super().__init__(message)
        self.after_ms = after_ms


PublishCode = Literal["denied", "limit", "invalid"]


class PublishError(Reject):
    """The hub did not take an event. Not caught, it is a reject."""

    def __init__(self, code: PublishCode, message: str) -> None:
        super().__init__(message)
        self.code: PublishCode = code


_CODES: dict[_publisher.PublishCode, PublishCode] = {
    _publisher.PublishCode.DENIED: "denied",
    _publisher.PublishCode.LIMIT: "limit",
    _publisher.PublishCode.INVALID: "invalid",
}


def publish(
    type: str,
    data: Any = None,
    *,
    text: str | None = None,
    tags: list[str] = [],
    correlation_id: str | None = None,
    extensions: list[tuple[str, str]] = [],
) -> str:
    """Publishes an event with this data, or with JSON text as it is, and returns its id. A refusal is a `PublishError`."""
    json = to_json(data) if text is None else text
    try:
        return _publisher.publish(_types.NewEvent(type, json, tags, correlation_id, extensions))
    except _Err as error:
        raise PublishError(_CODES[error.value.code], error.value.message) from None


def config(key: str, default: str | None = None) -> str | None:
    """A setting from the operator."""
    value = _config.get(key)
    return default if value is None else value


class kv:
    """Memory that outlives the call. A refusal is a retry."""

    @staticmethod
    def get(key: str) -> bytes | None:
        return _retried(_kv.get, key)

    @staticmethod
    def set(key: str, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"expected bytes, found {type(value).__name__}")  # or it would be a trap that says nothing
        _retried(_kv.set, key, value)

    @staticmethod
    def delete(key: str) -> None:
        _retried(_kv.delete, key)

    @staticmethod
    def keys(prefix: str = "", after: str | None = None) -> list[str]:
        return _retried(_kv.keys, prefix, after)

    @staticmethod
    def increment(key: str, delta: int = 1) -> int:
        """Adds to the number at the key, and returns the sum."""
        return _retried(_kv.increment, key, delta)


def _retried(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except _Err as error:
        raise Retry(error.value) from None
