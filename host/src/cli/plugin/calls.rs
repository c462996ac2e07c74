//! `busway plugin calls`: what each call of a plugin in a running hub came to, while they end: the answer, what it emitted and said,
//! its host calls, fuel, time and memory.

mod picture;

use crate::cli::{
    client::{Client, ClientError},
    output::{Output, note},
    sse::{Message, Parser},
};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// As long as `tail` waits: the hub sends a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CallsArgs {
    /// The plugin's name.
    name: String,
    /// JSON lines even on a terminal.
    #[arg(long)]
    json: bool,
    /// End after this many calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(super) async fn run(client: Client, args: CallsArgs) -> anyhow::Result<ExitCode> {
    let out = Output::stdout();
    let lines = out.is_terminal() && !args.json;
    let mut follower = Follower { client, name: args.name, out, lines, left: args.limit, connected: Arc::default() };
    tokio::select! {
        result = follower.follow() => result?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// One call, as the hub tells it.
#[derive(Debug, Deserialize)]
struct Call {
    seq: u64,
    #[serde(rename = "type")]
    event_type: String,
    attempt: u32,
    ended: String,
    verdict: Option<bool>,
    message: Option<String>,
    emitted: Vec<Emitted>,
    said: Said,
    fuel: u64,
    time_us: u64,
    memory: u64,
}

#[derive(Debug, Deserialize)]
struct Emitted {
    #[serde(rename = "type")]
    event_type: String,
    data: Box<RawValue>,
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Said {
    lines: Vec<Line>,
    stdout: String,
    stderr: String,
    #[serde(default)]
    trace: Vec<HostCall>,
}

#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct HostCall {
    call: String,
    about: String,
    answer: String,
    denied: bool,
}

/// Shows calls of one plugin until there are enough, over restarts of the hub and of the plugin.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) out: Output,
    /// For a person, not as JSON.
    pub(super) lines: bool,
    pub(super) left: Option<u64>,
    /// Told when calls are told from then on.
    pub(super) connected: Arc<Notify>,
}

impl Follower {
    pub(super) async fn follow(&mut self) -> anyhow::Result<()> {
        let mut connected = false;
        loop {
            let why = match self.connection(&mut connected).await {
                Ok(true) => return Ok(()),
                Ok(false) => "the stream ended".to_owned(),
                Err(error) => match error.downcast::<ClientError>() {
                    Ok(error) if connected => error.to_string(),
                    Ok(error) => return Err(error.into()),
                    Err(error) => return Err(error),
                },
            };
            note(format_args!("{why}; trying again"));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether there were enough.
    async fn connection(&mut self, connected: &mut bool) -> anyhow::Result<bool> {
        let answer = self.client.stream(&["v1", "plugins", &self.name, "calls"], &[], None).await?;
        *connected = true;
        self.connected.notify_one();
        let (mut body, mut parser) = (answer.bytes_stream(), Parser::default());
        while let Ok(Some(Ok(bytes))) = tokio::time::timeout(SILENCE, body.next()).await {
            for message in parser.feed(&bytes)? {
                self.take(&message)?;
                if self.left == Some(0) {
                    self.out.flush()?;
                    return Ok(true);
                }
            }
            self.out.flush()?;
        }
        Ok(false)
    }

    fn take(&mut self, message: &Message) -> anyhow::Result<()> {
        match message.event.as_str() {
            "call" if self.lines => {
                let call: Call = serde_json::from_str(&message.data)?;
                let text = picture::of(&call, self.out.colour());
                self.out.coloured(text)?;
            }
            "call" => self.out.line(&message.data)?,
            "lagged" => {
                #[derive(Deserialize)]
                struct Lagged {
                    missed: u64,
                }
                let Lagged { missed } = serde_json::from_str(&message.data)?;
                note(format_args!("{missed} calls more than could be shown"));
                return Ok(());
            }
            // Whatever later hubs add.
            _ => return Ok(()),
        }
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }
}
