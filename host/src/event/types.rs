//! The well-known event types. The set is open: any dotted name will do, these are the ones that agents, P2P
//! services, workflow engines and the hub itself have always used.

use super::Event;

macro_rules! types {
    ($($name:ident = $value:literal),+ $(,)?) => {
        $(#[doc = concat!("`", $value, "`")] pub const $name: &str = $value;)+
        /// All of the above.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

types! {
    AGENT_STARTING = "agent.starting",
    AGENT_STARTED = "agent.started",
    AGENT_STOPPING = "agent.stopping",
    AGENT_STOPPED = "agent.stopped",
    AGENT_ERROR = "agent.error",
    P2P_PEER_DISCOVERED = "p2p.peer_discovered",
    P2P_PEER_CONNECTED = "p2p.peer_connected",
    P2P_PEER_DISCONNECTED = "p2p.peer_disconnected",
    P2P_CARD_EXCHANGE = "p2p.card_exchange",
    P2P_TOOL_REQUEST = "p2p.tool_request",
    P2P_TOOL_RESPONSE = "p2p.tool_response",
    TASK_CREATED = "task.created",
    TASK_STARTED = "task.started",
    TASK_PROGRESS = "task.progress",
    TASK_COMPLETED = "task.completed",
    TASK_FAILED = "task.failed",
    TASK_CANCELLED = "task.cancelled",
    DSL_COMMAND_RECEIVED = "dsl.command_received",
    DSL_COMMAND_PROGRESS = "dsl.command_progress",
    DSL_COMMAND_COMPLETED = "dsl.command_completed",
    WORKFLOW_STARTED = "workflow.started",
    WORKFLOW_PROGRESS = "workflow.progress",
    WORKFLOW_COMPLETED = "workflow.completed",
    NODE_STATUS_UPDATE = "workflow.node_status_update",
    TOOL_EXECUTED = "tool.executed",
    TOOL_STARTING = "tool.starting",
    TOOL_COMPLETED = "tool.completed",
    TOOL_FAILED = "tool.failed",
    WS_CLIENT_CONNECTED = "ws.client_connected",
    WS_CLIENT_DISCONNECTED = "ws.client_disconnected",
    WS_MESSAGE_RECEIVED = "ws.message_received",
    WS_MESSAGE_SENT = "ws.message_sent",
    LOG_ENTRY = "log.entry",
    LOG_STREAM = "log.stream",
    SYSTEM_SHUTDOWN = "system.shutdown",
    SYSTEM_ERROR = "system.error",
}

impl Event {
    /// Whether the hub says something of plugins by it: `plugin.fault`, `plugin.dead_letter` and their like.
    pub fn is_of_plugins(&self) -> bool {
        self.metadata.source.as_deref() == Some("busway") && self.event_type.starts_with("plugin.")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_36_and_no_two_alike() {
        let all: std::collections::BTreeSet<_> = super::ALL.iter().collect();
        assert_eq!((all.len(), super::ALL.len()), (36, 36));
    }
}
