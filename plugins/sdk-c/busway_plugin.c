// See busway_plugin.h.
#define _GNU_SOURCE // vasprintf
#include "busway_plugin.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The bindings call this to have the component's type linked in; here, it is put in when the component is made.
void __component_type_object_force_link_busway(void) {}

#ifdef BUSWAY_HANDLER
void exports_handler_describe(exports_handler_description_t *about) {
  memset(about, 0, sizeof *about);
  describe(about);
}

bool exports_handler_handle(exports_handler_event_t *event, exports_handler_delivery_t *delivery, exports_handler_failure_t *failure) {
  memset(failure, 0, sizeof *failure);
  bool ok = handle(event, delivery->attempt, failure);
  exports_handler_event_free(event);
  return ok;
}

exports_handler_list_subscription_t bw_subscribe(busway_list_string_t event_types) {
  busway_subscription_t *one = calloc(1, sizeof *one);
  one->event_types = event_types;
  return (exports_handler_list_subscription_t){one, 1};
}
#endif

#ifdef BUSWAY_FILTER
void exports_filter_describe(exports_filter_description_t *about) {
  memset(about, 0, sizeof *about);
  describe(about);
}

bool exports_filter_matches(exports_filter_event_t *event, exports_filter_json_t *params, bool *verdict, busway_string_t *error) {
  *verdict = false;
  bool ok = matches(event, params ? *params : bw_borrow("{}"), verdict, error);
  exports_filter_event_free(event);
  if (params) exports_filter_json_free(params);
  return ok;
}
#endif

busway_string_t bw_borrow(const char *text) { return (busway_string_t){(uint8_t *)text, strlen(text)}; }

busway_string_t bw_copy(const char *text) {
  busway_string_t copy;
  busway_string_dup(&copy, text);
  return copy;
}

static busway_string_t format_list(const char *format, va_list list) {
  char *text;
  int length = vasprintf(&text, format, list);
  if (length < 0) __builtin_trap(); // no memory left
  return (busway_string_t){(uint8_t *)text, (size_t)length};
}

busway_string_t bw_format(const char *format, ...) {
  va_list list;
  va_start(list, format);
  busway_string_t text = format_list(format, list);
  va_end(list);
  return text;
}

bool bw_is(busway_string_t s, const char *text) { return s.len == strlen(text) && !memcmp(s.ptr, text, s.len); }

busway_list_string_t bw_list(const char *const *texts) {
  size_t count = 0;
  while (texts[count]) count++;
  busway_list_string_t list = {count ? malloc(count * sizeof *list.ptr) : NULL, count};
  for (size_t i = 0; i < count; i++) list.ptr[i] = bw_copy(texts[i]);
  return list;
}

void bw_log(logging_level_t level, const char *format, ...) {
  va_list list;
  va_start(list, format);
  busway_string_t line = format_list(format, list);
  va_end(list);
  logging_log(level, &line);
  free(line.ptr);
}

#ifdef BUSWAY_HANDLER
bool bw_retry(busway_failure_t *failure, const char *format, ...) {
  va_list list;
  va_start(list, format);
  *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_RETRY, .message = format_list(format, list)};
  va_end(list);
  return false;
}

bool bw_reject(busway_failure_t *failure, const char *format, ...) {
  va_list list;
  va_start(list, format);
  *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_REJECT, .message = format_list(format, list)};
  va_end(list);
  return false;
}

bool bw_retry_after(busway_failure_t *failure, uint32_t ms, const char *format, ...) {
  va_list list;
  va_start(list, format);
  *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_RETRY, .message = format_list(format, list), .retry_after_ms = {true, ms}};
  va_end(list);
  return false;
}

bool bw_publish(const char *type, busway_string_t data, busway_failure_t *failure) {
  busway_new_event_t event = {.type = bw_borrow(type), .data = data};
  busway_string_t id;
  publisher_publish_error_t error;
  bool ok = publisher_publish(&event, &id, &error);
  free(data.ptr);
  if (ok) busway_string_free(&id);
  else *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_REJECT, .message = error.message};
  return ok;
}

bool bw_increment(busway_string_t key, int32_t delta, int64_t *sum, busway_failure_t *failure) {
  busway_string_t why;
  bool ok = kv_increment(&key, delta, sum, &why);
  if (!ok) *failure = (busway_failure_t){.kind = BUSWAY_FAILURE_KIND_RETRY, .message = why};
  return ok;
}
#endif

// JSON.

typedef struct {
  const uint8_t *at, *end;
} reader;

static void space(reader *r) {
  while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at) r->at++;
}

static bool eat(reader *r, char c) {
  space(r);
  if (r->at >= r->end || *r->at != c) return false;
  r->at++;
  return true;
}

// Goes over one value, however deep, without a stack.
static busway_string_t value(reader *r) {
  space(r);
  const uint8_t *from = r->at;
  int depth = 0;
  bool in_text = false;
  for (; r->at < r->end; r->at++) {
    uint8_t c = *r->at;
    if (in_text) {
      if (c == '\\') r->at++;
      else if (c == '"' && (in_text = false, !depth)) { r->at++; break; }
    } else if (c == '"') in_text = true;
    else if (c == '{' || c == '[') depth++;
    else if ((c == '}' || c == ']') && depth-- == 0) break;
    else if ((c == '}' || c == ']') && !depth) { r->at++; break; }
    else if (!depth && (c == ',' || strchr(" \t\r\n", c))) break;
  }
  return (busway_string_t){(uint8_t *)from, (size_t)(r->at - from)};
}

static reader read_from(busway_string_t json) { return (reader){json.ptr, json.ptr + json.len}; }

bool bw_json_is_object(busway_string_t json) {
  reader r = read_from(json);
  return eat(&r, '{');
}

bool bw_json_member(busway_string_t object, const char *name, busway_string_t *found) {
  reader r = read_from(object);
  bool is_there = false;
  if (!eat(&r, '{') || eat(&r, '}')) return false;
  do {
    space(&r);
    const uint8_t *from = r.at;
    if (r.at >= r.end || *r.at != '"') return false;
    for (r.at++; r.at < r.end && *r.at != '"'; r.at++) r.at += *r.at == '\\';
    r.at++;
    busway_string_t key;
    bw_json_string((busway_string_t){(uint8_t *)from, (size_t)(r.at - from)}, &key);
    bool same = bw_is(key, name);
    free(key.ptr);
    if (!eat(&r, ':')) return false;
    busway_string_t v = value(&r);
    if (same) *found = v, is_there = true;
  } while (eat(&r, ','));
  return is_there;
}

bool bw_json_number(busway_string_t json, double *number) {
  char text[400];
  if (!json.len || json.len >= sizeof text || !strchr("-0123456789", json.ptr[0])) return false;
  memcpy(text, json.ptr, json.len);
  text[json.len] = 0;
  char *end;
  *number = strtod(text, &end);
  return end == text + json.len;
}

static uint32_t hex4(const uint8_t *at) {
  char digits[5] = {(char)at[0], (char)at[1], (char)at[2], (char)at[3], 0};
  return (uint32_t)strtoul(digits, NULL, 16);
}

static uint8_t *utf8(uint8_t *to, uint32_t c) {
  if (c < 0x80) *to++ = (uint8_t)c;
  else if (c < 0x800) *to++ = 0xc0 | c >> 6, *to++ = 0x80 | (c & 63);
  else if (c < 0x10000) *to++ = 0xe0 | c >> 12, *to++ = 0x80 | (c >> 6 & 63), *to++ = 0x80 | (c & 63);
  else *to++ = 0xf0 | c >> 18, *to++ = 0x80 | (c >> 12 & 63), *to++ = 0x80 | (c >> 6 & 63), *to++ = 0x80 | (c & 63);
  return to;
}

bool bw_json_string(busway_string_t json, busway_string_t *text) {
  if (json.len < 2 || json.ptr[0] != '"') return false;
  const uint8_t *at = json.ptr + 1, *end = json.ptr + json.len - 1;
  uint8_t *out = malloc(json.len), *to = out; // an escape is never shorter than what it stands for
  while (at < end) {
    if (*at != '\\') { *to++ = *at++; continue; }
    static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
    const char *found = at[1] ? strchr(from, at[1]) : NULL;
    if (at[1] != 'u') { *to++ = found ? (uint8_t)into[found - from] : at[1]; at += 2; continue; }
    uint32_t c = end - at >= 6 ? hex4(at + 2) : 0xfffd;
    at += end - at >= 6 ? 6 : end - at;
    if (c >= 0xd800 && c < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
      uint32_t low = hex4(at + 2);
      if (low >= 0xdc00 && low < 0xe000) c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), at += 6;
    }
    to = utf8(to, c >= 0xd800 && c < 0xe000 ? 0xfffd : c); // half a pair is no character
  }
  *text = (busway_string_t){out, (size_t)(to - out)};
  return true;
}

busway_string_t bw_json_quote(busway_string_t text) {
  uint8_t *out = malloc(text.len * 6 + 2), *to = out;
  *to++ = '"';
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.ptr[i];
    if (c == '"' || c == '\\') *to++ = '\\', *to++ = c;
    else if (c < 0x20) to += sprintf((char *)to, "\\u%04x", c);
    else *to++ = c;
  }
  *to++ = '"';
  return (busway_string_t){out, (size_t)(to - out)};
}
