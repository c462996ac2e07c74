// Lets through the events that have a tag: `urgent`, or the one in its parameters.
#include "busway_plugin.h"
#include <stdlib.h>
#include <string.h>

void describe(exports_filter_description_t *about) {
  about->name = bw_copy("c-tagged");
  about->version = bw_copy("0.1.0");
  about->summary = bw_copy("True for events that have a tag");
  about->params_schema.is_some = true;
  about->params_schema.val = bw_copy("{\"type\":\"object\",\"properties\":{\"tag\":{\"default\":\"urgent\"}}}");
}

static unsigned calls; // of this instance

bool matches(const busway_event_t *event, busway_string_t params, bool *verdict, busway_string_t *error) {
  bw_log(LOGGING_LEVEL_DEBUG, "asking about %.*s, call %u", BW_TEXT(event->type), ++calls);
  busway_string_t tag, value;
  bool ok = bw_json_is_object(params);
  if (!ok || !bw_json_member(params, "tag", &value)) tag = bw_copy("urgent");
  else if (!bw_json_string(value, &tag)) ok = false;
  if (!ok) {
    *error = bw_format("params: expected {\"tag\": string}, found %.*s", BW_TEXT(params));
    return false;
  }
  const busway_list_string_t *tags = &event->metadata.tags;
  for (size_t i = 0; i < tags->len; i++) {
    if (tags->ptr[i].len == tag.len && !memcmp(tags->ptr[i].ptr, tag.ptr, tag.len)) *verdict = true;
  }
  free(tag.ptr);
  return true;
}
