// Between the contract and the plugin. The exports get their full names when the component is made.
import * as plugin from "../../plugin";
import { AFTER_EVENT, Event, begin, cabi_realloc, putPairs, putStr, putStrs, release, room } from "./abi";
export { cabi_realloc, describe, handle };

function handle(at: usize): usize {
  begin();
  const event = new Event(at), attempt = load<u32>(at, AFTER_EVENT);
  const failure = plugin.handle(event, attempt);
  release();
  const ret = room(24); // result<_, failure>: tag, then kind at 4, message at 8, retry-after-ms (left zero: none) at 16 and 20
  if (failure) {
    store<u8>(ret, 1);
    store<u8>(ret, failure.rejected ? 1 : 0, 4);
    putStr(ret + 8, failure.message);
    if (failure.afterMs >= 0) {
      store<u8>(ret, 1, 16);
      store<u32>(ret, <u32>min<i64>(failure.afterMs, <i64>u32.MAX_VALUE), 20);
    }
  }
  return ret;
}

function describe(): usize {
  begin();
  const about = plugin.describe(), ret = room(56), wanted = about.subscriptions, list = room(32 * wanted.length);
  putStr(ret, about.name);
  putStr(ret + 8, about.version);
  putStr(ret + 16, about.summary);
  for (let i = 0; i < wanted.length; i++) {
    const at = list + 32 * i;
    putStrs(at, wanted[i].eventTypes);
    putStrs(at + 8, wanted[i].sourcePatterns);
    putStrs(at + 16, wanted[i].requiredTags);
    putStrs(at + 24, wanted[i].excludedTags);
  }
  store<u32>(ret + 24, <u32>list);
  store<u32>(ret + 28, wanted.length);
  putStrs(ret + 32, about.emits);
  putStrs(ret + 40, about.capabilities);
  putPairs(ret + 48, about.hints);
  return ret;
}
