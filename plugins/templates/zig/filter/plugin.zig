//! Lets through orders from a given total on.

const busway = @import("busway");

pub const about: busway.Filter = .{
    .name = "my-plugin",
    .version = "0.1.0",
    .summary = "True for orders of at least `min`",
    .params_schema =
    \\{"type":"object","properties":{"min":{"type":"number","default":100}}}
    ,
};

/// The data of an `order.placed`.
const Order = struct { total: busway.Number };

/// What the one who asks may give.
const Params = struct { min: busway.Number = .{ .number = 100 } };

pub fn matches(event: busway.Event, json: []const u8) !bool {
    const params = busway.parse(Params, json) catch return busway.refuse("params: expected {{\"min\": number}}, found {s}", .{json});
    const order = event.read(Order) catch return false;
    return order.total.number >= params.min.number;
}

comptime {
    busway.plugin(@This());
}
