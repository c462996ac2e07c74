// Write Busway plugins in C. A plugin defines `describe`, and `handle` (a handler) or `matches` (a filter); this is what helps with it.
// `busway.h` has the contract itself: the types, and `kv_…`, `config_get` and `publisher_publish`.
//
// Whose memory it is: what you are given (events, params) is only lent, and gone after the call. What you hand over (everything in
// a description, a failure's message, a filter's error) must come from malloc, as `bw_copy`, `bw_format` and `BW_LIST` give it. What
// imports give you is yours to free, with the `…_free` functions of busway.h.
#ifndef BUSWAY_PLUGIN_H
#define BUSWAY_PLUGIN_H

#include "busway.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// For you to define.
#ifdef BUSWAY_HANDLER
// What the plugin is and wants. `about` is all zero: empty lists, nothing set.
void describe(exports_handler_description_t *about);
// Handles one event; false with the failure set (see bw_retry and bw_reject) if it could not.
bool handle(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure);
#endif
#ifdef BUSWAY_FILTER
void describe(exports_filter_description_t *about);
// Sets the verdict; false with the error set if there is no answer. `params` is {} if none were given.
bool matches(const busway_event_t *event, busway_string_t params, bool *verdict, busway_string_t *error);
#endif

// Texts. A busway_string_t has no NUL at its end: printf("%.*s", BW_TEXT(s)).
#define BW_TEXT(s) (int)(s).len, (const char *)(s).ptr
busway_string_t bw_borrow(const char *text); // as it is, not copied
busway_string_t bw_copy(const char *text);
busway_string_t bw_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool bw_is(busway_string_t s, const char *text);

// BW_LIST("a", "b"): a list of copies.
#define BW_LIST(...) bw_list((const char *const[]){__VA_ARGS__, NULL})
busway_list_string_t bw_list(const char *const *texts);

// One line for the operator: bw_log(LOGGING_LEVEL_INFO, "seen %d", n).
void bw_log(logging_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef BUSWAY_HANDLER
// A list of one subscription: to these types.
#define BW_SUBSCRIBE(...) bw_subscribe(BW_LIST(__VA_ARGS__))
exports_handler_list_subscription_t bw_subscribe(busway_list_string_t event_types);
// All give false, so that one can write: return bw_reject(failure, "no customer").
bool bw_retry(busway_failure_t *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool bw_reject(busway_failure_t *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A retry, but not before so many milliseconds have passed.
bool bw_retry_after(busway_failure_t *failure, uint32_t ms, const char *format, ...) __attribute__((format(printf, 3, 4)));
// Publishes an event without tags, and frees the data. A refusal is a reject.
bool bw_publish(const char *type, busway_string_t data, busway_failure_t *failure);
// Adds to the number at the key. A refusal is a retry.
bool bw_increment(busway_string_t key, int32_t delta, int64_t *sum, busway_failure_t *failure);
#endif

// JSON, enough to read an object's members and to write texts; link a library for more. The input has to be valid, as all JSON is that
// the host passes in.
bool bw_json_is_object(busway_string_t json);
// The value of a member, as it stands there; false if there is none, or it is no object. The last one counts.
bool bw_json_member(busway_string_t object, const char *name, busway_string_t *value);
bool bw_json_number(busway_string_t value, double *number); // false: not a number
bool bw_json_string(busway_string_t value, busway_string_t *text); // a copy; false: not a string
busway_string_t bw_json_quote(busway_string_t text);       // a copy: "…", with escapes

#ifdef __cplusplus
}
#endif
#endif
