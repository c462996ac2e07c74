//! Counts task events, and publishes each with its number.

const std = @import("std");
const busway = @import("busway");

pub const about: busway.Handler = .{
    .name = "zig-counter",
    .version = "0.1.0",
    .summary = "Counts task events",
    .subscriptions = &.{.{ .event_types = &.{"task.*"} }},
    .emits = &.{"counter.counted"},
    .capabilities = &.{ "publish", "kv" },
};

pub fn handle(event: busway.Event, attempt: u32) !void {
    if (std.mem.eql(u8, event.type, "task.boom")) return busway.retry("boom", .{});
    if (std.mem.eql(u8, event.type, "task.never")) return busway.reject("never", .{});
    if (std.mem.eql(u8, event.type, "task.trap")) @trap(); // @panic writes to stderr and so imports WASI
    try busway.log(.info, "handling {s} attempt {d}", .{ event.event_id, attempt });

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

comptime {
    busway.plugin(@This());
}
