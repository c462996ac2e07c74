//! Counts the orders of each customer, and publishes the count.

const std = @import("std");
const busway = @import("busway");

pub const about: busway.Handler = .{
    .name = "my-plugin",
    .version = "0.1.0",
    .summary = "Counts the orders of each customer",
    .subscriptions = &.{.{ .event_types = &.{"order.placed"} }},
    .emits = &.{"order.counted"},
    .capabilities = &.{ "publish", "kv" },
};

/// The data of an `order.placed`.
const Order = struct { customer: busway.Text };

/// All or nothing: what it published and wrote counts only if it returns no error.
pub fn handle(event: busway.Event, attempt: u32) !void {
    _ = attempt;
    const order = event.read(Order) catch return busway.reject("expected {{\"customer\": string}}, found {s}", .{event.data});
    const customer = order.customer.text;

    const key = try std.fmt.allocPrint(busway.allocator, "orders/{s}", .{customer});
    const orders = try busway.kv.increment(key, 1);
    try busway.log(.info, "order {d} of {s}", .{ orders, customer });
    _ = try busway.publish(.{
        .type = "order.counted",
        .data = try busway.stringify(.{ .customer = customer, .orders = orders }),
    });
}

comptime {
    busway.plugin(@This());
}
