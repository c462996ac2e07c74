// Counts task events, and publishes each with its number.
import { Description, Event, Failure, NewEvent, Subscription, kv, log, publish, reject, retry } from "./.busway/sdk/busway";

export function describe(): Description {
  const about = new Description("assemblyscript-counter", "0.1.0", "Counts task events");
  about.subscriptions = [new Subscription(["task.*"])];
  about.emits = ["counter.counted"];
  about.capabilities = ["publish", "kv"];
  return about;
}

export function handle(event: Event, attempt: u32): Failure | null {
  if (event.type == "task.boom") return retry("boom");
  if (event.type == "task.never") return reject("never");
  if (event.type == "task.trap") unreachable();
  log(`handling ${event.metadata.eventId} attempt ${attempt}`);

  const count = kv.increment("count");
  if (count.failure) return count.failure;

  const counted = new NewEvent("counter.counted", `{"from":${event.seq},"count":${count.value},"data":${event.data}}`);
  counted.tags = ["derived"].concat(event.metadata.tags);
  counted.extensions = event.metadata.extensions;
  return publish(counted);
}
