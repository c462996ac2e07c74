"""Between the contract and plugin.py."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.filter import Description
from wit_world.imports import types

import plugin
from busway import Event, Refuse
from busway_event import explain, hints, to_json


class Filter(exports.Filter):
    def describe(self) -> Description:
        about = plugin.about
        schema = None if about.params_schema is None else to_json(about.params_schema)
        return Description(about.name, about.version, about.summary, schema, hints(about.hints))

    def matches(self, event: types.Event, params: str | None) -> bool:
        try:
            return bool(plugin.matches(Event(event), {} if params is None else json.loads(params)))
        except Refuse as error:
            raise Err(str(error)) from None
        except Exception as error:
            raise Err(explain(error)) from None
