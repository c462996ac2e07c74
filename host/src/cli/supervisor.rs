//! Tells systemd that the hub is still starting, when it is ready and when it stops, where that started it and wants to know (`Type=notify`, sd_notify(3)).

use std::os::unix::net::UnixDatagram;

/// Who started the hub, if it asked to be told.
pub(super) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// Connects to the socket that the environment names. Names that are no paths are for containers, and not spoken to.
    pub(super) fn connect() -> Self {
        let connected = std::env::var_os("NOTIFY_SOCKET").map(|path| {
            let socket = UnixDatagram::unbound()?;
            // It is told a few words; if there is no room for them, the hub does not wait.
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok(socket)
        });
        match connected {
            Some(Err(error)) => {
                let error: std::io::Error = error;
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be connected to: nobody is told when the hub is ready");
                Self(None)
            }
            connected => Self(connected.and_then(Result::ok)),
        }
    }

    /// Says a line such as `READY=1`.
    pub(super) fn tell(&self, state: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(state.as_bytes())) {
            tracing::warn!(%error, "the supervisor cannot be told {state}");
        }
    }
}
