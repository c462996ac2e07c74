//! Write Busway plugins in Zig. A plugin has `pub const about`, and `pub fn handle(event: busway.Event, attempt: u32) !void` (a handler)
//! or `pub fn matches(event: busway.Event, params: []const u8) !bool` (a filter), and names itself in `comptime { busway.plugin(@This()); }`.
//! What the fields mean stands in ../wit. `busway.allocator` is emptied after each call; whatever is returned here comes from it.

const std = @import("std");
const c = @import("c.zig"); // made from the contract

var arena = std.heap.ArenaAllocator.init(std.heap.c_allocator);
/// For what need not outlive the call.
pub const allocator = arena.allocator();

/// Name and JSON.
pub const Pair = struct { []const u8, []const u8 };

pub const Subscription = struct {
    event_types: []const []const u8 = &.{},
    source_patterns: []const []const u8 = &.{},
    required_tags: []const []const u8 = &.{},
    excluded_tags: []const []const u8 = &.{},
};

pub const Handler = struct {
    name: []const u8,
    version: []const u8,
    summary: []const u8,
    subscriptions: []const Subscription,
    emits: []const []const u8 = &.{},
    capabilities: []const []const u8 = &.{},
    hints: []const Pair = &.{},
};

pub const Filter = struct {
    name: []const u8,
    version: []const u8,
    summary: []const u8,
    params_schema: ?[]const u8 = null,
    hints: []const Pair = &.{},
};

/// An event as it stands in the log. Its texts are gone after the call.
pub const Event = struct {
    seq: u64,
    type: []const u8,
    /// JSON.
    data: []const u8,
    event_id: []const u8,
    /// Microseconds since 1970.
    timestamp: u64,
    correlation_id: ?[]const u8,
    causation_id: ?[]const u8,
    source: ?[]const u8,
    tags: []const []const u8,
    hops: u32,
    extensions: []const Pair,

    /// The data as a type of yours; members that it does not name are passed over.
    pub fn read(event: Event, comptime T: type) !T {
        return parse(T, event.data);
    }
};

/// JSON as a type of yours. A text is best taken as `Text`: a `[]const u8` is read from a list of numbers as well.
pub fn parse(comptime T: type, json: []const u8) !T {
    return std.json.parseFromSliceLeaky(T, allocator, json, .{ .ignore_unknown_fields = true });
}

/// JSON of a value of yours.
pub fn stringify(value: anytype) ![]const u8 {
    return std.json.Stringify.valueAlloc(allocator, value, .{});
}

/// A text of JSON, and nothing else.
pub const Text = struct {
    text: []const u8,

    pub fn jsonParse(a: std.mem.Allocator, source: anytype, options: std.json.ParseOptions) !Text {
        return switch (try std.json.innerParse(std.json.Value, a, source, options)) {
            .string => |string| .{ .text = string },
            else => error.UnexpectedToken,
        };
    }
};

/// A number of JSON: an `f64` is read from a text as well.
pub const Number = struct {
    number: f64,

    pub fn jsonParse(a: std.mem.Allocator, source: anytype, options: std.json.ParseOptions) !Number {
        return switch (try std.json.innerParse(std.json.Value, a, source, options)) {
            .integer => |number| .{ .number = @floatFromInt(number) },
            .float => |number| .{ .number = number },
            .number_string => |number| .{ .number = try std.fmt.parseFloat(f64, number) },
            else => error.UnexpectedToken,
        };
    }
};

pub const Level = enum(u8) { trace, debug, info, warn, err };

/// One line for the operator.
pub fn log(level: Level, comptime format: []const u8, arguments: anytype) !void {
    var line = borrow(try std.fmt.allocPrint(allocator, format, arguments));
    c.logging_log(@intFromEnum(level), &line);
}

var message: []const u8 = "";
var after_ms: ?u32 = null;

/// `return busway.retry("…", .{})`: it may work later.
pub fn retry(comptime format: []const u8, arguments: anytype) error{Retry} {
    message = std.fmt.allocPrint(allocator, format, arguments) catch "no memory left";
    after_ms = null;
    return error.Retry;
}

/// `return busway.retryAfter(30_000, "…", .{})`: the same, but not before so many milliseconds have passed.
pub fn retryAfter(ms: u32, comptime format: []const u8, arguments: anytype) error{Retry} {
    defer after_ms = ms;
    return retry(format, arguments);
}

/// `return busway.reject("…", .{})`: it will never work.
pub fn reject(comptime format: []const u8, arguments: anytype) error{Reject} {
    message = std.fmt.allocPrint(allocator, format, arguments) catch "no memory left";
    return error.Reject;
}

/// `return busway.refuse("params: …", .{})`: a filter's error.
pub fn refuse(comptime format: []const u8, arguments: anytype) error{Refuse} {
    message = std.fmt.allocPrint(allocator, format, arguments) catch "no memory left";
    return error.Refuse;
}

pub const NewEvent = struct {
    type: []const u8,
    /// JSON.
    data: []const u8 = "null",
    tags: []const []const u8 = &.{},
    correlation_id: ?[]const u8 = null,
    extensions: []const Pair = &.{},
};

/// Why an event is not taken; see `publish-code` in the contract.
pub const PublishError = error{ PublishDenied, PublishLimit, PublishInvalid };

/// Publishes an event and returns the id that it will have. A refusal that is handed on is a reject.
pub fn publish(event: NewEvent) (PublishError || std.mem.Allocator.Error)![]const u8 {
    var raw = std.mem.zeroes(c.busway_new_event_t);
    raw.type = borrow(event.type);
    raw.data = borrow(event.data);
    const tags = try allocator.alloc(c.busway_string_t, event.tags.len);
    for (tags, event.tags) |*to, from| to.* = borrow(from);
    raw.tags = .{ .ptr = start(tags), .len = tags.len };
    if (event.correlation_id) |id| raw.correlation_id = .{ .is_some = true, .val = borrow(id) };
    const extensions = try allocator.alloc(c.busway_tuple2_string_json_t, event.extensions.len);
    for (extensions, event.extensions) |*to, from| to.* = .{ .f0 = borrow(from[0]), .f1 = borrow(from[1]) };
    raw.extensions = .{ .ptr = start(extensions), .len = extensions.len };
    var id: c.busway_string_t = undefined;
    var why: c.publisher_publish_error_t = undefined;
    if (c.publisher_publish(&raw, &id, &why)) return take(&id);
    message = try take(&why.message);
    return switch (why.code) {
        c.PUBLISHER_PUBLISH_CODE_DENIED => error.PublishDenied,
        c.PUBLISHER_PUBLISH_CODE_LIMIT => error.PublishLimit,
        else => error.PublishInvalid,
    };
}

/// A setting from the operator.
pub fn config(key: []const u8) !?[]const u8 {
    var k = borrow(key);
    var value: c.busway_string_t = undefined;
    return if (c.config_get(&k, &value)) try take(&value) else null;
}

/// Memory that outlives the call. A refusal is a retry.
pub const kv = struct {
    pub fn get(key: []const u8) !?[]const u8 {
        var k = borrow(key);
        var value: c.busway_option_list_u8_t = undefined;
        var why: c.busway_string_t = undefined;
        if (!c.kv_get(&k, &value, &why)) return refused(&why);
        if (!value.is_some) return null;
        defer c.busway_option_list_u8_free(&value);
        return try allocator.dupe(u8, if (value.val.len == 0) "" else value.val.ptr[0..value.val.len]);
    }

    pub fn set(key: []const u8, value: []const u8) !void {
        var k = borrow(key);
        var v = c.busway_list_u8_t{ .ptr = start(@constCast(value)), .len = value.len };
        var why: c.busway_string_t = undefined;
        if (!c.kv_set(&k, &v, &why)) return refused(&why);
    }

    pub fn delete(key: []const u8) !void {
        var k = borrow(key);
        var why: c.busway_string_t = undefined;
        if (!c.kv_delete(&k, &why)) return refused(&why);
    }

    /// Those that begin with the prefix, in the order of their bytes, after `after` (null: from the first); at most 1,000.
    pub fn keys(prefix: []const u8, after: ?[]const u8) ![]const []const u8 {
        var p = borrow(prefix);
        var a = borrow(after orelse "");
        var found: c.busway_list_string_t = undefined;
        var why: c.busway_string_t = undefined;
        if (!c.kv_keys(&p, if (after == null) null else &a, &found, &why)) return refused(&why);
        defer c.busway_list_string_free(&found);
        const all = try allocator.alloc([]const u8, found.len);
        for (all, 0..) |*to, i| to.* = try allocator.dupe(u8, text(found.ptr[i]));
        return all;
    }

    /// Adds to the number at the key, and returns the sum.
    pub fn increment(key: []const u8, delta: i32) !i64 {
        var k = borrow(key);
        var sum: i64 = undefined;
        var why: c.busway_string_t = undefined;
        if (!c.kv_increment(&k, delta, &sum, &why)) return refused(&why);
        return sum;
    }

    fn refused(why: *c.busway_string_t) error{ Retry, OutOfMemory } {
        return retry("{s}", .{try take(why)});
    }
};

/// What an import has given, in memory of the call.
fn take(s: *c.busway_string_t) ![]const u8 {
    defer c.busway_string_free(s);
    return allocator.dupe(u8, text(s.*));
}

fn text(s: c.busway_string_t) []const u8 {
    return if (s.len == 0) "" else s.ptr[0..s.len];
}

fn option(s: c.busway_option_string_t) ?[]const u8 {
    return if (s.is_some) text(s.val) else null;
}

fn borrow(s: []const u8) c.busway_string_t {
    return .{ .ptr = start(@constCast(s)), .len = s.len };
}

/// What an empty slice points to may be nowhere in memory, which the host refuses.
fn start(slice: anytype) ?@TypeOf(slice.ptr) {
    return if (slice.len == 0) null else slice.ptr;
}

/// What is returned is freed by the bindings: all of it comes from the C allocator.
fn copy(s: []const u8) c.busway_string_t {
    var to: c.busway_string_t = undefined;
    c.busway_string_dup_n(&to, s.ptr, s.len);
    return to;
}

fn room(comptime T: type, count: usize) []T {
    return std.heap.c_allocator.alloc(T, count) catch @trap();
}

fn list(from: []const []const u8) c.busway_list_string_t {
    const to = room(c.busway_string_t, from.len);
    for (to, from) |*item, s| item.* = copy(s);
    return .{ .ptr = start(to), .len = to.len };
}

fn pairs(comptime List: type, from: []const Pair) List {
    const Item = @typeInfo(@TypeOf(@as(List, undefined).ptr)).pointer.child;
    const to = room(Item, from.len);
    for (to, from) |*item, pair| item.* = .{ .f0 = copy(pair[0]), .f1 = copy(pair[1]) };
    return .{ .ptr = start(to), .len = to.len };
}

fn eventOf(from: *const c.busway_event_t) !Event {
    const meta = from.metadata;
    const tags = try allocator.alloc([]const u8, meta.tags.len);
    for (tags, 0..) |*to, i| to.* = text(meta.tags.ptr[i]);
    const extensions = try allocator.alloc(Pair, meta.extensions.len);
    for (extensions, 0..) |*to, i| to.* = .{ text(meta.extensions.ptr[i].f0), text(meta.extensions.ptr[i].f1) };
    return .{
        .seq = from.seq,
        .type = text(from.type),
        .data = text(from.data),
        .event_id = text(meta.event_id),
        .timestamp = meta.timestamp,
        .correlation_id = option(meta.correlation_id),
        .causation_id = option(meta.causation_id),
        .source = option(meta.source),
        .tags = tags,
        .hops = meta.hops,
        .extensions = extensions,
    };
}

/// Exports the plugin.
pub fn plugin(comptime Plugin: type) void {
    const glue = if (@hasDecl(Plugin, "handle")) struct {
        fn describe(about: *c.exports_handler_description_t) callconv(.c) void {
            const from: Handler = Plugin.about;
            about.* = std.mem.zeroes(c.exports_handler_description_t);
            about.name = copy(from.name);
            about.version = copy(from.version);
            about.summary = copy(from.summary);
            const subscriptions = room(c.busway_subscription_t, from.subscriptions.len);
            for (subscriptions, from.subscriptions) |*to, one| to.* = .{
                .event_types = list(one.event_types),
                .source_patterns = list(one.source_patterns),
                .required_tags = list(one.required_tags),
                .excluded_tags = list(one.excluded_tags),
            };
            about.subscriptions = .{ .ptr = start(subscriptions), .len = subscriptions.len };
            about.emits = list(from.emits);
            about.capabilities = list(from.capabilities);
            about.hints = pairs(@TypeOf(about.hints), from.hints);
        }

        fn call(event: *const c.busway_event_t, attempt: u32, failure: *c.busway_failure_t) callconv(.c) bool {
            defer _ = arena.reset(.retain_capacity);
            handle(event, attempt) catch |e| {
                const rejected = switch (e) {
                    error.Reject, error.PublishDenied, error.PublishLimit, error.PublishInvalid => true,
                    else => false,
                };
                const pause = if (e == error.Retry) after_ms else null;
                failure.* = .{
                    .kind = if (rejected) c.BUSWAY_FAILURE_KIND_REJECT else c.BUSWAY_FAILURE_KIND_RETRY,
                    .message = copy(if (rejected or e == error.Retry) message else @errorName(e)),
                    .retry_after_ms = .{ .is_some = pause != null, .val = pause orelse 0 },
                };
                return false;
            };
            return true;
        }

        fn handle(event: *const c.busway_event_t, attempt: u32) anyerror!void {
            return Plugin.handle(try eventOf(event), attempt);
        }
    } else struct {
        fn describe(about: *c.exports_filter_description_t) callconv(.c) void {
            const from: Filter = Plugin.about;
            about.* = std.mem.zeroes(c.exports_filter_description_t);
            about.name = copy(from.name);
            about.version = copy(from.version);
            about.summary = copy(from.summary);
            if (from.params_schema) |schema| about.params_schema = .{ .is_some = true, .val = copy(schema) };
            about.hints = pairs(@TypeOf(about.hints), from.hints);
        }

        fn call(event: *const c.busway_event_t, params: c.busway_string_t, verdict: *bool, why: *c.busway_string_t) callconv(.c) bool {
            defer _ = arena.reset(.retain_capacity);
            verdict.* = matches(event, text(params)) catch |e| {
                why.* = copy(if (e == error.Refuse) message else @errorName(e));
                return false;
            };
            return true;
        }

        fn matches(event: *const c.busway_event_t, params: []const u8) anyerror!bool {
            return Plugin.matches(try eventOf(event), params);
        }
    };
    @export(&glue.describe, .{ .name = "describe" });
    @export(&glue.call, .{ .name = if (@hasDecl(Plugin, "handle")) "handle" else "matches" });
}
