//! Counts task events, and publishes each with its number.

const std = @import("std");
const busway = @import("busway");

pub const about: busway.Handler = .{
    .name = "zig-counter",
    .version = "0.1.0",
    .summary = "Counts task events",
    .subscriptions = &.{.{ .event_types = &.{"task.*"} }},
    .emits = &.{"counter.counted"},
    .capabilities = &.{ "publish", "kv", "config" },
};

var calls: u32 = 0; // of this instance

pub fn handle(event: busway.Event, attempt: u32) !void {
    calls += 1;
    if (std.mem.eql(u8, event.type, "task.boom")) return busway.retry("boom", .{});
    if (std.mem.eql(u8, event.type, "task.later")) return busway.retryAfter(1500, "later", .{});
    if (std.mem.eql(u8, event.type, "task.never")) return busway.reject("never", .{});
    if (std.mem.eql(u8, event.type, "task.trap")) @trap(); // @panic writes to stderr and so imports WASI
    if (std.mem.eql(u8, event.type, "task.bug")) return error.Bug;
    if (std.mem.eql(u8, event.type, "task.probe")) return probe(event, attempt);
    try busway.log(.info, "handling {s} {s}, attempt {d}, call {d}", .{ event.type, event.event_id, attempt, calls });

    const count = try busway.kv.increment("count", 1);
    // The data is JSON already: it is put in as it is.
    const data = try std.fmt.allocPrint(busway.allocator, "{{\"from\":{d},\"count\":{d},\"data\":{s}}}", .{ event.seq, count, event.data });
    _ = try busway.publish(.{
        .type = "counter.counted",
        .data = data,
        .tags = try std.mem.concat(busway.allocator, []const u8, &.{ &.{"derived"}, event.tags }),
        .extensions = event.extensions,
    });
}

/// Uses all that the hub offers, and publishes what it saw.
fn probe(event: busway.Event, attempt: u32) !void {
    try busway.log(.trace, "probing {s}", .{event.type});
    try busway.log(.err, "probed {s}", .{event.type});
    const published = try busway.publish(.{ .type = "counter.counted", .correlation_id = "its own" });

    for (try busway.kv.keys("probe/", null)) |key| try busway.kv.delete(key);
    try busway.kv.set("probe/1", "");
    try busway.kv.set("probe/ü", event.data);
    const kept = try busway.kv.get("probe/ü") orelse return error.NotKept;

    _ = try busway.publish(.{ .type = "counter.counted", .data = try busway.stringify(.{
        .type = event.type,
        .seq = event.seq,
        .timestamp = event.timestamp,
        .correlation_id = event.correlation_id,
        .causation_id = event.causation_id,
        .source = event.source,
        .hops = event.hops,
        .attempt = attempt,
        .config = try busway.config("greeting"),
        .published = published,
        .invalid = isInvalid("no JSON"),
        .kept = try busway.parse(std.json.Value, kept),
        .empty = try busway.kv.get("probe/1"),
        .gone = try busway.kv.get("probe/old"),
        .keys = try busway.kv.keys("probe/", "probe/1"),
    }) });
}

fn isInvalid(data: []const u8) bool {
    _ = busway.publish(.{ .type = "counter.counted", .data = data }) catch |e| return e == error.PublishInvalid;
    return false;
}

comptime {
    busway.plugin(@This());
}
