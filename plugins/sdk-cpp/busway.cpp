// See busway.hpp.
#include "busway.hpp"
#include <__verbose_abort>
#include <ranges>

// libc++ reports a failed check on stderr before it aborts, which would import WASI.
void std::__libcpp_verbose_abort(const char *, ...) _NOEXCEPT { __builtin_trap(); }

namespace busway {

static std::string_view view(const busway_string_t &s) { return {s.len ? (const char *)s.ptr : "", s.len}; }
static std::optional<std::string_view> view(const busway_option_string_t &s) {
  return s.is_some ? std::optional(view(s.val)) : std::nullopt;
}
static busway_string_t borrow(std::string_view s) { return {(uint8_t *)s.data(), s.size()}; }
static busway_option_string_t borrow_option(const std::optional<std::string> &s) {
  return s ? busway_option_string_t{true, borrow(*s)} : busway_option_string_t{};
}
static busway_string_t copy(std::string_view s) {
  busway_string_t c;
  busway_string_dup_n(&c, s.data(), s.size());
  return c;
}
static std::string take(busway_string_t s) {
  std::string text(view(s));
  busway_string_free(&s);
  return text;
}
template <typename Item> static Item *room(size_t count) { return count ? (Item *)calloc(count, sizeof(Item)) : nullptr; }

template <typename Pairs> static Pairs hints(const Hints &from) {
  Pairs to{room<std::remove_pointer_t<decltype(Pairs::ptr)>>(from.size()), 0};
  for (auto &[name, value] : from) to.ptr[to.len++] = {copy(name), copy(value)};
  return to;
}

static Event event_of(const busway_event_t &from) {
  auto &meta = from.metadata;
  Event to{from.seq, view(from.type), view(from.data), view(meta.event_id), meta.timestamp,
           view(meta.correlation_id), view(meta.causation_id), view(meta.source), {}, meta.hops, {}};
  for (size_t i = 0; i < meta.tags.len; i++) to.tags.push_back(view(meta.tags.ptr[i]));
  for (size_t i = 0; i < meta.extensions.len; i++)
    to.extensions.emplace_back(view(meta.extensions.ptr[i].f0), view(meta.extensions.ptr[i].f1));
  return to;
}

void log(logging_level_t level, std::string_view line) {
  auto message = borrow(line);
  logging_log(level, &message);
}

namespace json {
static std::optional<busway_string_t> member(std::string_view object, const char *name) {
  busway_string_t value;
  return bw_json_member(borrow(object), name, &value) ? std::optional(value) : std::nullopt;
}
std::optional<std::string> text(std::string_view object, const char *name) {
  busway_string_t text;
  auto value = member(object, name);
  return value && bw_json_string(*value, &text) ? std::optional(take(text)) : std::nullopt;
}
std::optional<double> number(std::string_view object, const char *name) {
  double number;
  auto value = member(object, name);
  return value && bw_json_number(*value, &number) ? std::optional(number) : std::nullopt;
}
bool is_object(std::string_view json) { return bw_json_is_object(borrow(json)); }
bool has(std::string_view object, const char *name) { return member(object, name).has_value(); }
std::string quote(std::string_view text) { return take(bw_json_quote(borrow(text))); }
} // namespace json

#ifdef BUSWAY_HANDLER
static busway_list_string_t list(const std::vector<std::string> &from) {
  busway_list_string_t to{room<busway_string_t>(from.size()), 0};
  for (auto &text : from) to.ptr[to.len++] = copy(text);
  return to;
}

std::expected<std::string, PublishError> publish(const NewEvent &event) {
  std::vector<busway_string_t> tags;
  for (auto &tag : event.tags) tags.push_back(borrow(tag));
  std::vector<busway_tuple2_string_json_t> extensions;
  for (auto &[name, value] : event.extensions) extensions.push_back({borrow(name), borrow(value)});
  busway_new_event_t raw{.type = borrow(event.type), .data = borrow(event.data), .tags = {tags.data(), tags.size()},
                         .correlation_id = borrow_option(event.correlation_id),
                         .extensions = {extensions.data(), extensions.size()}};
  busway_string_t id;
  publisher_publish_error_t error;
  if (publisher_publish(&raw, &id, &error)) return take(id);
  return std::unexpected(PublishError{{BUSWAY_FAILURE_KIND_REJECT, take(error.message)}, error.code});
}

std::optional<std::string> config(std::string_view key) {
  auto k = borrow(key);
  busway_string_t value;
  return config_get(&k, &value) ? std::optional(take(value)) : std::nullopt;
}

namespace kv {
std::expected<std::optional<std::string>, Failure> get(std::string_view key) {
  auto k = borrow(key);
  busway_option_list_u8_t value;
  busway_string_t why;
  if (!kv_get(&k, &value, &why)) return retry(take(why));
  if (!value.is_some) return std::nullopt;
  std::string text((const char *)value.val.ptr, value.val.len);
  busway_option_list_u8_free(&value);
  return text;
}
std::expected<void, Failure> set(std::string_view key, std::string_view value) {
  auto k = borrow(key);
  busway_list_u8_t v{(uint8_t *)value.data(), value.size()};
  busway_string_t why;
  if (!kv_set(&k, &v, &why)) return retry(take(why));
  return {};
}
std::expected<void, Failure> remove(std::string_view key) {
  auto k = borrow(key);
  busway_string_t why;
  if (!kv_delete(&k, &why)) return retry(take(why));
  return {};
}
std::expected<std::vector<std::string>, Failure> keys(std::string_view prefix, std::optional<std::string_view> after) {
  auto p = borrow(prefix), a = borrow(after.value_or(""));
  busway_list_string_t found;
  busway_string_t why;
  if (!kv_keys(&p, after ? &a : nullptr, &found, &why)) return retry(take(why));
  std::vector<std::string> keys;
  for (size_t i = 0; i < found.len; i++) keys.emplace_back(view(found.ptr[i]));
  busway_list_string_free(&found);
  return keys;
}
std::expected<std::int64_t, Failure> increment(std::string_view key, std::int32_t delta) {
  auto k = borrow(key);
  std::int64_t sum;
  busway_string_t why;
  if (!kv_increment(&k, delta, &sum, &why)) return retry(take(why));
  return sum;
}
} // namespace kv
#endif
} // namespace busway

#ifdef BUSWAY_HANDLER
extern "C" void describe(exports_handler_description_t *about) {
  auto from = busway::describe();
  about->name = busway::copy(from.name);
  about->version = busway::copy(from.version);
  about->summary = busway::copy(from.summary);
  about->subscriptions.ptr = busway::room<busway_subscription_t>(from.subscriptions.size());
  for (auto &one : from.subscriptions)
    about->subscriptions.ptr[about->subscriptions.len++] = {busway::list(one.event_types), busway::list(one.source_patterns),
                                                            busway::list(one.required_tags), busway::list(one.excluded_tags)};
  about->emits = busway::list(from.emits);
  about->capabilities = busway::list(from.capabilities);
  about->hints = busway::hints<decltype(about->hints)>(from.hints);
}

extern "C" bool handle(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure) {
  auto result = busway::handle(busway::event_of(*event), attempt);
  if (result) return true;
  auto &why = result.error();
  *failure = {why.kind, busway::copy(why.message), {why.retry_after_ms.has_value(), why.retry_after_ms.value_or(0)}};
  return false;
}
#endif

#ifdef BUSWAY_FILTER
extern "C" void describe(exports_filter_description_t *about) {
  auto from = busway::describe();
  about->name = busway::copy(from.name);
  about->version = busway::copy(from.version);
  about->summary = busway::copy(from.summary);
  about->params_schema.is_some = from.params_schema.has_value();
  about->params_schema.val = busway::copy(from.params_schema.value_or(""));
  about->hints = busway::hints<decltype(about->hints)>(from.hints);
}

extern "C" bool matches(const busway_event_t *event, busway_string_t params, bool *verdict, busway_string_t *error) {
  auto result = busway::matches(busway::event_of(*event), busway::view(params));
  if (result) *verdict = *result;
  else *error = busway::copy(result.error());
  return result.has_value();
}
#endif
