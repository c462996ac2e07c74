"""Counts task events, and publishes each with its number."""

import time

from busway import Event, Handler, Reject, Retry, kv, log, publish

about = Handler(
    name="python-counter",
    version="0.1.0",
    summary="Counts task events",
    subscriptions=["task.*"],
    emits=["counter.counted"],
    capabilities=["publish", "kv"],
)


def handle(event: Event, attempt: int) -> None:
    match event.type:
        case "task.boom":
            raise Retry("boom")
        case "task.never":
            raise Reject("never")
        case "task.trap":
            time.time()  # there is no clock
        case "task.bug":
            event.data["nothing of the kind"]
    log.info(f"handling {event.metadata.event_id} attempt {attempt}")
    count = kv.increment("count")
    # The data is JSON already: it is put in as it is, so that its numbers keep their digits.
    text = f'{{"from":{event.seq},"count":{count},"data":{event.text}}}'
    tags = ["derived", *event.metadata.tags]
    publish("counter.counted", text=text, tags=tags, extensions=event.metadata.extensions)
