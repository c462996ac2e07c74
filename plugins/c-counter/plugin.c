// Counts task events, and publishes each with its number.
#include "busway_plugin.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void describe(exports_handler_description_t *about) {
  about->name = bw_copy("c-counter");
  about->version = bw_copy("0.1.0");
  about->summary = bw_copy("Counts task events");
  about->subscriptions = BW_SUBSCRIBE("task.*");
  about->emits = BW_LIST("counter.counted");
  about->capabilities = BW_LIST("publish", "kv");
}

bool handle(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure) {
  if (bw_is(event->type, "task.boom")) return bw_retry(failure, "boom");
  if (bw_is(event->type, "task.never")) return bw_reject(failure, "never");
  if (bw_is(event->type, "task.trap")) abort();
  bw_log(LOGGING_LEVEL_INFO, "handling %.*s attempt %" PRIu32, BW_TEXT(event->metadata.event_id), attempt);

  int64_t count;
  if (!bw_increment(bw_borrow("count"), 1, &count, failure)) return false;

  const busway_list_string_t *tags = &event->metadata.tags;
  busway_string_t data = bw_format("{\"from\":%" PRIu64 ",\"count\":%" PRId64 ",\"data\":%.*s}", event->seq, count, BW_TEXT(event->data));
  busway_new_event_t counted = {
      .type = bw_borrow("counter.counted"),
      .data = data,
      .tags = {malloc((tags->len + 1) * sizeof *tags->ptr), tags->len + 1},
      .extensions = event->metadata.extensions,
  };
  counted.tags.ptr[0] = bw_borrow("derived");
  if (tags->len) memcpy(&counted.tags.ptr[1], tags->ptr, tags->len * sizeof *tags->ptr);

  busway_string_t id;
  publisher_publish_error_t error;
  bool ok = publisher_publish(&counted, &id, &error);
  free(counted.tags.ptr);
  free(data.ptr);
  if (!ok) {
    *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_REJECT, .message = error.message};
    return false;
  }
  busway_string_free(&id);
  return true;
}
