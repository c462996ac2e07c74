"""Between the contract and plugin.py."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Delivery, Description
from wit_world.imports import types

import plugin
from busway import Event, Reject, Retry, Subscription
from busway_event import explain, hints, is_async, no_async


class Handler(exports.Handler):
    def describe(self) -> Description:
        about = plugin.about
        wanted = [Subscription([one]) if isinstance(one, str) else one for one in about.subscriptions]
        return Description(
            name=about.name,
            version=about.version,
            summary=about.summary,
            subscriptions=[
                types.Subscription(one.event_types, one.source_patterns, one.required_tags, one.excluded_tags) for one in wanted
            ],
            emits=about.emits,
            capabilities=about.capabilities,
            hints=hints(about.hints),
        )

    def handle(self, event: types.Event, delivery: Delivery) -> None:
        try:
            if is_async(plugin.handle(Event(event), delivery.attempt)):
                raise Reject(no_async("handle"))
        except Reject as error:
            raise Err(types.Failure(types.FailureKind.REJECT, str(error), None)) from None
        except Retry as error:
            raise Err(types.Failure(types.FailureKind.RETRY, str(error), error.after_ms)) from None
        except Exception as error:
            raise Err(types.Failure(types.FailureKind.RETRY, explain(error), None)) from None
