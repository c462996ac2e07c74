//! The whole hub inside another program: HTTP, WebSocket and plugins from a directory, beside a native subscriber.
//!
//! `cargo run --example hub`, then publish to the address that it prints.

use busway::{config::Config, event::EventFilter, hub::Hub};
use std::io::Write;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config =
        Config::parse("[http]\nlisten = \"127.0.0.1:0\"\n[plugins]\ndir = \"plugins\"\n[journal]\nmemory = true\n")?;
    let hub = Hub::start(config).await?;
    writeln!(std::io::stdout(), "listening on http://{}", hub.addr())?;
    let _printing =
        hub.bus().subscribe_sync(EventFilter::all(), |event| writeln!(std::io::stdout(), "{}", event.to_json()));
    tokio::signal::ctrl_c().await?;
    hub.shutdown().await;
    Ok(())
}
