//! Lets through the events that have a tag: `urgent`, or the one in its parameters.

const std = @import("std");
const busway = @import("busway");

pub const about: busway.Filter = .{
    .name = "zig-tagged",
    .version = "0.1.0",
    .summary = "True for events that have a tag",
    .params_schema =
    \\{"type":"object","properties":{"tag":{"default":"urgent"}}}
    ,
};

const Params = struct { tag: busway.Text = .{ .text = "urgent" } };

var calls: u32 = 0; // of this instance

pub fn matches(event: busway.Event, json: []const u8) !bool {
    calls += 1;
    try busway.log(.debug, "asking about {s}, call {d}", .{ event.type, calls });
    const params = busway.parse(Params, json) catch return busway.refuse("params: expected {{\"tag\": string}}, found {s}", .{json});
    for (event.tags) |tag| if (std.mem.eql(u8, tag, params.tag.text)) return true;
    return false;
}

comptime {
    busway.plugin(@This());
}
