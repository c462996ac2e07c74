// Between the contract and the plugin. The exports get their full names when the component is made.
import * as plugin from "../../plugin";
import { AFTER_EVENT, Event, begin, cabi_realloc, opt, putPairs, putStr, release, room } from "./abi";
export { cabi_realloc, describe, matches };

function matches(at: usize): usize {
  begin();
  const event = new Event(at), params = opt(at + AFTER_EVENT);
  const answer = plugin.matches(event, params === null ? "{}" : params), error = answer.error;
  release();
  const ret = room(16); // result<bool, string>: tag, then the value at 4
  store<u8>(ret, error === null ? 0 : 1);
  if (error !== null) putStr(ret + 4, error);
  else store<u8>(ret, answer.passes ? 1 : 0, 4);
  return ret;
}

function describe(): usize {
  begin();
  const about = plugin.describe(), ret = room(44), schema = about.paramsSchema;
  putStr(ret, about.name);
  putStr(ret + 8, about.version);
  putStr(ret + 16, about.summary);
  if (schema !== null) {
    store<u8>(ret, 1, 24); // option<json>
    putStr(ret + 28, schema);
  }
  putPairs(ret + 36, about.hints);
  return ret;
}
