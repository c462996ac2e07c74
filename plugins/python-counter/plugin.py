"""Counts task events, and publishes each with its number."""

import json
import time

from busway import Event, Handler, PublishError, Reject, Retry, config, kv, log, publish

about = Handler(
    name="python-counter",
    version="0.1.0",
    summary="Counts task events",
    subscriptions=["task.*"],
    emits=["counter.counted"],
    capabilities=["publish", "kv", "config"],
)

calls = 0
"""Of this instance."""


def handle(event: Event, attempt: int) -> None:
    global calls
    calls += 1
    match event.type:
        case "task.boom":
            raise Retry("boom")
        case "task.later":
            raise Retry("later", after_ms=1500)
        case "task.never":
            raise Reject("never")
        case "task.trap":
            time.time()  # there is no clock
        case "task.bug":
            kv.set("bug", event.data["bytes"])
        case "task.probe":
            return probe(event, attempt)
    log.info(f"handling {event.type} {event.metadata.event_id}, attempt {attempt}, call {calls}")
    count = kv.increment("count")
    # The data is JSON already: it is put in as it is, so that its numbers keep their digits.
    text = f'{{"from":{event.seq},"count":{count},"data":{event.text}}}'
    tags = ["derived", *event.metadata.tags]
    publish("counter.counted", text=text, tags=tags, extensions=event.metadata.extensions)


def probe(event: Event, attempt: int) -> None:
    """Uses all that the hub offers, and publishes what it saw."""
    log.trace(f"probing {event.type}")
    log.error(f"probed {event.type}")
    published = publish("counter.counted", correlation_id="its own")

    for key in kv.keys("probe/"):
        kv.delete(key)
    kv.set("probe/1", b"")
    kv.set("probe/ü", event.text.encode())

    publish(
        "counter.counted",
        {
            "type": event.type,
            "seq": event.seq,
            "timestamp": event.metadata.timestamp,
            "correlation_id": event.metadata.correlation_id,
            "causation_id": event.metadata.causation_id,
            "source": event.metadata.source,
            "hops": event.metadata.hops,
            "attempt": attempt,
            "config": config("greeting"),
            "published": published,
            "invalid": is_invalid("no JSON"),
            "kept": json.loads(kv.get("probe/ü") or b""),
            "empty": text(kv.get("probe/1")),
            "gone": text(kv.get("probe/old")),
            "keys": kv.keys("probe/", "probe/1"),
        },
    )


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def is_invalid(data: str) -> bool:
    try:
        publish("counter.counted", text=data)
    except PublishError as error:
        return error.code == "invalid"
    return False
