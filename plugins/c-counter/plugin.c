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
  about->capabilities = BW_LIST("publish", "kv", "config");
}

static bool probe(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure);

static unsigned calls; // of this instance

bool handle(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure) {
  calls++;
  if (bw_is(event->type, "task.boom")) return bw_retry(failure, "boom");
  if (bw_is(event->type, "task.later")) return bw_retry_after(failure, 1500, "later");
  if (bw_is(event->type, "task.never")) return bw_reject(failure, "never");
  if (bw_is(event->type, "task.trap")) abort();
  if (bw_is(event->type, "task.probe")) return probe(event, attempt, failure);
  bw_log(LOGGING_LEVEL_INFO, "handling %.*s %.*s, attempt %" PRIu32 ", call %u", BW_TEXT(event->type), BW_TEXT(event->metadata.event_id),
         attempt, calls);

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

// JSON: a text, or null. To be freed, as what the functions below give.
static busway_string_t quoted(busway_option_string_t text) { return text.is_some ? bw_json_quote(text.val) : bw_copy("null"); }

static busway_string_t setting(const char *name) {
  busway_string_t key = bw_borrow(name);
  busway_option_string_t value = {0};
  value.is_some = config_get(&key, &value.val);
  busway_string_t json = quoted(value);
  busway_option_string_free(&value);
  return json;
}

// What is at the key: null if there is nothing.
static bool text_at(const char *name, busway_option_string_t *text, busway_failure_t *failure) {
  busway_string_t key = bw_borrow(name);
  busway_option_list_u8_t value;
  failure->kind = BUSWAY_FAILURE_KIND_RETRY;
  if (!kv_get(&key, &value, &failure->message)) return false;
  *text = (busway_option_string_t){value.is_some, {value.val.ptr, value.val.len}};
  return true;
}

// Puts these texts at `probe/1` and `probe/ü`, and nothing else below `probe/`.
static bool remember(busway_string_t first, busway_string_t second, busway_failure_t *failure) {
  busway_string_t prefix = bw_borrow("probe/"), keys[] = {bw_borrow("probe/1"), bw_borrow("probe/ü")};
  busway_list_u8_t values[] = {{first.ptr, first.len}, {second.ptr, second.len}};
  busway_list_string_t old;
  failure->kind = BUSWAY_FAILURE_KIND_RETRY;
  bool ok = kv_keys(&prefix, NULL, &old, &failure->message);
  if (!ok) return false;
  for (size_t i = 0; ok && i < old.len; i++) ok = kv_delete(&old.ptr[i], &failure->message);
  busway_list_string_free(&old);
  for (int i = 0; ok && i < 2; i++) ok = kv_set(&keys[i], &values[i], &failure->message);
  return ok;
}

static bool is_invalid(const char *data) {
  busway_new_event_t event = {.type = bw_borrow("counter.counted"), .data = bw_borrow(data)};
  busway_string_t id;
  publisher_publish_error_t error;
  if (publisher_publish(&event, &id, &error)) return false;
  bool invalid = error.code == PUBLISHER_PUBLISH_CODE_INVALID;
  publisher_publish_error_free(&error);
  return invalid;
}

// Uses all that the hub offers, and publishes what it saw.
static bool probe(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure) {
  bw_log(LOGGING_LEVEL_TRACE, "probing %.*s", BW_TEXT(event->type));
  bw_log(LOGGING_LEVEL_ERROR, "probed %.*s", BW_TEXT(event->type));
  busway_new_event_t first = {.type = bw_borrow("counter.counted"), .data = bw_borrow("null"), .correlation_id = {true, bw_borrow("its own")}};
  busway_string_t id, prefix = bw_borrow("probe/"), after = bw_borrow("probe/1");
  publisher_publish_error_t error;
  if (!publisher_publish(&first, &id, &error)) return bw_reject(failure, "%.*s", BW_TEXT(error.message));

  busway_option_string_t kept, empty, gone;
  busway_list_string_t keys;
  if (!remember(bw_borrow(""), event->data, failure)) return false;
  if (!text_at("probe/ü", &kept, failure) || !text_at("probe/1", &empty, failure) || !text_at("probe/old", &gone, failure)) return false;
  if (!kv_keys(&prefix, &after, &keys, &failure->message)) return false;

  const busway_metadata_t *meta = &event->metadata;
  busway_string_t texts[] = {bw_json_quote(event->type), quoted(meta->correlation_id), quoted(meta->causation_id), quoted(meta->source),
                             setting("greeting"), quoted(empty), quoted(gone), keys.len == 1 ? bw_json_quote(keys.ptr[0]) : bw_copy("null")};
  busway_string_t data = bw_format(
      "{\"type\":%.*s,\"correlation_id\":%.*s,\"causation_id\":%.*s,\"source\":%.*s,\"config\":%.*s,\"empty\":%.*s,\"gone\":%.*s,"
      "\"keys\":[%.*s],\"kept\":%.*s,\"seq\":%" PRIu64 ",\"timestamp\":%" PRIu64 ",\"hops\":%" PRIu32 ",\"attempt\":%" PRIu32
      ",\"published\":\"%.*s\",\"invalid\":%s}",
      BW_TEXT(texts[0]), BW_TEXT(texts[1]), BW_TEXT(texts[2]), BW_TEXT(texts[3]), BW_TEXT(texts[4]), BW_TEXT(texts[5]), BW_TEXT(texts[6]),
      BW_TEXT(texts[7]), BW_TEXT(kept.val), event->seq, meta->timestamp, meta->hops, attempt, BW_TEXT(id),
      is_invalid("no JSON") ? "true" : "false");
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i].ptr);
  busway_option_string_free(&kept);
  busway_option_string_free(&empty);
  busway_option_string_free(&gone);
  busway_list_string_free(&keys);
  busway_string_free(&id);
  return bw_publish("counter.counted", data, failure);
}
