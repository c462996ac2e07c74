// Lets through orders from a given total on.
#include "busway_plugin.h"

void describe(exports_filter_description_t *about) {
  about->name = bw_copy("my-plugin");
  about->version = bw_copy("0.1.0");
  about->summary = bw_copy("True for orders of at least `min`");
  about->params_schema.is_some = true;
  about->params_schema.val = bw_copy("{\"type\":\"object\",\"properties\":{\"min\":{\"type\":\"number\",\"default\":100}}}");
}

// What the one who asks may give.
typedef struct {
  double min;
} params_t;

static bool read_params(busway_string_t json, params_t *params) {
  busway_string_t value;
  params->min = 100;
  if (!bw_json_member(json, "min", &value)) return bw_json_is_object(json);
  return bw_json_number(value, &params->min);
}

bool matches(const busway_event_t *event, busway_string_t json, bool *verdict, busway_string_t *error) {
  params_t params;
  if (!read_params(json, &params)) {
    *error = bw_format("params: expected {\"min\": number}, found %.*s", BW_TEXT(json));
    return false;
  }
  busway_string_t value;
  double total;
  *verdict = bw_json_member(event->data, "total", &value) && bw_json_number(value, &total) && total >= params.min;
  return true;
}
