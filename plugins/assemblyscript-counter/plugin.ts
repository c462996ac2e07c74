// Counts task events, and publishes each with its number.
import {
  Description, Event, Failure, Level, NewEvent, PublishCode, Subscription, config, json, kv, log, publish, reject, retry,
} from "./.busway/sdk/busway";

export function describe(): Description {
  const about = new Description("assemblyscript-counter", "0.1.0", "Counts task events");
  about.subscriptions = [new Subscription(["task.*"])];
  about.emits = ["counter.counted"];
  about.capabilities = ["publish", "kv", "config"];
  return about;
}

let calls = 0; // of this instance

export function handle(event: Event, attempt: u32): Failure | null {
  calls++;
  if (event.type == "task.boom") return retry("boom");
  if (event.type == "task.later") return retry("later", 1500);
  if (event.type == "task.never") return reject("never");
  if (event.type == "task.trap") unreachable();
  if (event.type == "task.probe") return probe(event, attempt);
  log(`handling ${event.type} ${event.metadata.eventId}, attempt ${attempt}, call ${calls}`);

  const count = kv.increment("count");
  if (count.failure) return count.failure;

  const counted = new NewEvent("counter.counted", `{"from":${event.seq},"count":${count.value},"data":${event.data}}`);
  counted.tags = ["derived"].concat(event.metadata.tags);
  counted.extensions = event.metadata.extensions;
  return publish(counted).failure;
}

/** Uses all that the hub offers, and publishes what it saw. */
function probe(event: Event, attempt: u32): Failure | null {
  log(`probing ${event.type}`, Level.Trace);
  log(`probed ${event.type}`, Level.Error);
  const first = new NewEvent("counter.counted", "null");
  first.correlationId = "its own";
  const published = publish(first);
  if (published.failure) return published.failure;
  const invalid = publish(new NewEvent("counter.counted", "no JSON")).code == PublishCode.Invalid;

  const failed = remember("", event.data);
  if (failed) return failed;
  const kept = kv.get("probe/ü"), empty = kv.get("probe/1"), gone = kv.get("probe/old"), keys = kv.keys("probe/", "probe/1");
  if (keys.failure) return keys.failure;

  const meta = event.metadata;
  const data = `{"type":${quote(event.type)},"seq":${event.seq},"timestamp":${meta.timestamp},"correlation_id":${quote(meta.correlationId)},`
    + `"causation_id":${quote(meta.causationId)},"source":${quote(meta.source)},"hops":${meta.hops},"attempt":${attempt},`
    + `"config":${quote(config("greeting"))},"published":${quote(published.id)},"invalid":${invalid},"kept":${kept.value!},`
    + `"empty":${quote(empty.value)},"gone":${quote(gone.value)},"keys":[${keys.value.map<string>((key) => json.quote(key)).join(",")}]}`;
  return publish(new NewEvent("counter.counted", data)).failure;
}

/** JSON: a text, or null. */
function quote(text: string | null): string {
  return text === null ? "null" : json.quote(text);
}

/** Puts these texts at `probe/1` and `probe/ü`, and nothing else below `probe/`. */
function remember(first: string, second: string): Failure | null {
  const old = kv.keys("probe/");
  if (old.failure) return old.failure;
  for (let i = 0; i < old.value.length; i++) {
    const failed = kv.remove(old.value[i]);
    if (failed) return failed;
  }
  const failed = kv.set("probe/1", first);
  return failed ? failed : kv.set("probe/ü", second);
}
