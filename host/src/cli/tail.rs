//! `busway tail`: follows the hub's stream of events, over restarts of the hub and cuts of the network.
//!
//! It always knows the last seq it has seen, also before the first event came, so that a reconnect leaves no silent
//! gap. What is gone for good is said on stderr.

use super::client::{Client, ClientError};
use super::filter::FilterArgs;
use super::output::{Output, note};
use super::render;
use super::sse::{Message, Parser};
use futures_util::StreamExt;
use serde::Deserialize;
use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// The hub sends a comment every 15 s; after three of them are missing, the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with this seq, or the earliest event that is still there, instead of with what is published from now on.
    #[arg(long, value_name = "SEQ|earliest")]
    from: Option<From>,
    /// JSON lines even on a terminal.
    #[arg(long)]
    json: bool,
    /// End after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Earliest,
    Seq(u64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "earliest" => Ok(Self::Earliest),
            Ok(seq) if seq > 0 => Ok(Self::Seq(seq)),
            _ => Err(format!("expected a seq (1, 2, …) or earliest, found {text:?}")),
        }
    }
}

pub(super) async fn run(client: Client, args: TailArgs) -> anyhow::Result<ExitCode> {
    // A task of its own: where stdout is stuck in a pager, ctrl-c is still heard here.
    let work = tokio::spawn(async move {
        let mut tail = Tail::begin(client, args).await?;
        tail.follow().await
    });
    tokio::select! {
        result = work => result??,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What tail needs of the hub's numbers.
#[derive(Deserialize)]
struct Numbers {
    epoch: String,
    head: u64,
    oldest: u64,
}

async fn numbers(client: &Client) -> Result<Numbers, ClientError> {
    client.get(&["v1", "stats"], &[]).await
}

/// How a connection ended.
enum End {
    /// As many events came as were asked for.
    Enough,
    /// Worth another try.
    Cut(String),
}

struct Tail {
    client: Client,
    query: Vec<(&'static str, String)>,
    /// `<epoch>:<seq>` of the last event that was seen, or that there was before.
    last_event_id: String,
    left: Option<u64>,
    lines: bool,
    out: Output,
    pause: Duration,
}

impl Tail {
    async fn begin(client: Client, args: TailArgs) -> anyhow::Result<Self> {
        let now = numbers(&client).await?;
        let before = match args.from {
            None => now.head,
            Some(From::Earliest) => now.oldest.saturating_sub(1),
            Some(From::Seq(seq)) => seq - 1,
        };
        let out = Output::stdout();
        Ok(Self {
            client,
            query: args.filter.query(),
            last_event_id: format!("{}:{before}", now.epoch),
            left: args.limit,
            lines: out.is_terminal() && !args.json,
            out,
            pause: FIRST_PAUSE,
        })
    }

    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut connected = false;
        loop {
            let why = match self.connection(&mut connected).await {
                Ok(End::Enough) => return Ok(()),
                Ok(End::Cut(why)) => why,
                Err(error) => match error.downcast::<ClientError>() {
                    // What a first connection is told to do would be noise here.
                    Ok(ClientError::Unreachable { cause, .. }) if connected => format!("no hub answers ({cause})"),
                    Ok(error) if connected && is_passing(&error) => error.to_string(),
                    Ok(error) => return Err(error.into()),
                    Err(error) => return Err(error),
                },
            };
            note(format_args!("{why}; trying again in {:.1} s", self.pause.as_secs_f64()));
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, from its opening to its end.
    async fn connection(&mut self, connected: &mut bool) -> anyhow::Result<End> {
        let path = ["v1", "events", "stream"];
        let answer = self.client.stream(&path, &self.query, Some(&self.last_event_id)).await?;
        if std::mem::replace(connected, true) && self.pause > FIRST_PAUSE {
            note("connected again");
        }
        let mut body = answer.bytes_stream();
        let mut parser = Parser::default();
        loop {
            let bytes = match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(_))) => return Ok(End::Cut("the connection broke".into())),
                Ok(None) => return Ok(End::Cut("the hub closed the stream".into())),
                Err(_) => return Ok(End::Cut("the hub has been silent for too long".into())),
            };
            // Only what really arrives shows that the hub is well.
            self.pause = FIRST_PAUSE;
            for message in parser.feed(&bytes)? {
                self.take(message)?;
                if self.left == Some(0) {
                    self.out.flush()?;
                    return Ok(End::Enough);
                }
            }
            self.out.flush()?;
        }
    }

    fn take(&mut self, message: Message) -> anyhow::Result<()> {
        if let Some(id) = message.id {
            self.last_event_id = id;
        }
        match message.event.as_str() {
            "message" => {
                if self.lines {
                    let line = render::event_line(&message.data, self.out.width(), self.out.colour());
                    self.out.coloured(line)?;
                } else {
                    // Line breaks stand between tokens only, where a space is as good.
                    self.out.line(message.data.replace('\n', " "))?;
                }
                self.left = self.left.map(|left| left - 1);
            }
            "lagged" => match serde_json::from_str::<Lagged>(&message.data) {
                Ok(gap) => note(gap),
                Err(_) => note(format_args!("missed events: {}", render::harmless(&message.data))),
            },
            "filter_error" => match serde_json::from_str::<FilterError>(&message.data) {
                Ok(error) => note(error),
                Err(_) => note(format_args!("the filter gave no verdict: {}", render::harmless(&message.data))),
            },
            "epoch" => match serde_json::from_str::<NewEpoch>(&message.data) {
                Ok(epoch) => note(epoch),
                Err(_) => note(format_args!("the hub's log is another: {}", render::harmless(&message.data))),
            },
            // `position`, of which the id is all, and whatever later hubs add.
            _ => {}
        }
        Ok(())
    }
}

/// What the hub says where it cannot go on after the last event that was seen.
#[derive(Deserialize)]
struct NewEpoch {
    from: u64,
}

impl fmt::Display for NewEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub has begun a new numbering of its events; going on with seq {}", self.from)
    }
}

/// What the hub says where a filter plugin gave no verdict.
#[derive(Deserialize)]
struct FilterError {
    plugin: String,
    code: String,
    from: u64,
    to: u64,
    count: u64,
    passed: bool,
    detail: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, code, from, to, count, passed, detail } = self;
        let (plugin, code, detail) = (render::harmless(plugin), render::harmless(code), render::harmless(detail));
        write!(f, "the filter {plugin} gave no verdict on ")?;
        match (count, passed) {
            (1, true) => write!(f, "event {from}, which is shown all the same")?,
            (1, false) => write!(f, "event {from}, which is left out")?,
            _ => write!(f, "{} events, seq {from} to {to}, which are left out", render::grouped(*count))?,
        }
        write!(f, " ({code}: {detail})")
    }
}

/// What the hub says of a gap.
#[derive(Deserialize)]
struct Lagged {
    missed: u64,
    from: u64,
    to: u64,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missed, from, to } = self;
        match missed {
            1 => write!(f, "missed 1 event, seq {from}: the hub no longer has it"),
            _ => {
                write!(f, "missed {} events, seq {from} to {to}: the hub no longer has them", render::grouped(*missed))
            }
        }
    }
}

/// Whether a hub that was fine may be fine again. A filter plugin may still be loading after a restart.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::ProxyUnreachable { .. } | ClientError::Broken { .. } => true,
        ClientError::NotAHub { status, .. } => status.is_server_error(),
        ClientError::Problem(problem) => matches!(problem.status, 404 | 429 | 500..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_seq_or_earliest() {
        assert_eq!("earliest".parse(), Ok(From::Earliest));
        assert_eq!("7".parse(), Ok(From::Seq(7)));
        for text in ["0", "-1", "", "latest", "1.5"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_gap_is_said_in_words() {
        let said = |json: &str| serde_json::from_str::<Lagged>(json).unwrap().to_string();
        let many = said(r#"{"missed":1200,"from":1,"to":1200}"#);
        assert_eq!(many, "missed 1,200 events, seq 1 to 1200: the hub no longer has them");
        assert_eq!(said(r#"{"missed":1,"from":7,"to":7}"#), "missed 1 event, seq 7: the hub no longer has it");
    }

    #[test]
    fn a_filter_that_gave_no_verdict_is_said_in_words() {
        let said = |json: &str| serde_json::from_str::<FilterError>(json).unwrap().to_string();
        assert_eq!(
            said(r#"{"plugin":"x","code":"trap","from":7,"to":7,"count":1,"passed":true,"detail":"it\u001b[2J"}"#),
            "the filter x gave no verdict on event 7, which is shown all the same (trap: it\\u001b[2J)"
        );
        assert_eq!(
            said(r#"{"plugin":"x","code":"fuel","from":7,"to":1200,"count":1100,"passed":false,"detail":"all"}"#),
            "the filter x gave no verdict on 1,100 events, seq 7 to 1200, which are left out (fuel: all)"
        );
    }
}
