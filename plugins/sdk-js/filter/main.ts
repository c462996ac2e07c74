// Between the contract and the plugin.
import * as plugin from "#plugin";
import type { RawEvent } from "busway:plugin/types@0.1.0";
import { Event, type Filter, Refusal, refuse } from "./busway";
import { explain, hints, isPromise, noPromise } from "./event";

export const filter = {
  describe() {
    const { name, version, summary, paramsSchema, hints: wishes }: Filter = plugin.about;
    return { name, version, summary, paramsSchema: paramsSchema && JSON.stringify(paramsSchema), hints: hints(wishes) };
  },

  matches(event: RawEvent, params: string | null): boolean {
    try {
      const answer: unknown = plugin.matches(new Event(event), JSON.parse(params ?? "{}"));
      if (isPromise(answer)) throw refuse(noPromise("matches"));
      return Boolean(answer);
    } catch (error) {
      throw error instanceof Refusal ? error.message : explain(error); // a thrown string is the error of the contract
    }
  },
};
