"""Between the contract and plugin.py."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.filter import Description
from wit_world.imports import types

import plugin
from busway import Event, Refuse
from busway_event import explain, hints, is_async, no_async, to_json


class Filter(exports.Filter):
    def describe(self) -> Description:
        about = plugin.about
        schema = None if about.params_schema is None else to_json(about.params_schema)
        return Description(about.name, about.version, about.summary, schema, hints(about.hints))

    def matches(self, event: types.Event, params: str | None) -> bool:
        try:
            answer = plugin.matches(Event(event), {} if params is None else json.loads(params))
            if is_async(answer):
                raise Refuse(no_async("matches"))
            return bool(answer)
        except Refuse as error:
            raise Err(str(error)) from None
        except Exception as error:
            raise Err(explain(error)) from None
