// Between the contract and the plugin.
import * as plugin from "#plugin";
import type { RawEvent } from "busway:plugin/types@0.1.0";
import { Event, Failure, type Handler, type Subscription, reject } from "./busway";
import { explain, hints, isPromise, noPromise } from "./event";

export const handler = {
  describe() {
    const about: Handler = plugin.about;
    const full = (one: string | Subscription) => ({
      eventTypes: [],
      sourcePatterns: [],
      requiredTags: [],
      excludedTags: [],
      ...(typeof one === "string" ? { eventTypes: [one] } : one),
    });
    return {
      name: about.name,
      version: about.version,
      summary: about.summary,
      subscriptions: about.subscriptions.map(full),
      emits: about.emits ?? [],
      capabilities: about.capabilities ?? [],
      hints: hints(about.hints),
    };
  },

  handle(event: RawEvent, { attempt }: { attempt: number }) {
    try {
      if (isPromise(plugin.handle(new Event(event), attempt >>> 0))) throw reject(noPromise("handle"));
    } catch (error) {
      // A thrown record is the error of the contract; anything else would be a trap without a reason.
      if (error instanceof Failure) throw { kind: error.kind, message: error.message, retryAfterMs: error.afterMs };
      throw { kind: "retry", message: explain(error) };
    }
  },
};
