//! `busway demo`: plays the events of [`crate::demo`] into a hub, in time and with back-pressure.

use super::client::Client;
use super::output::note;
use super::sender::Sender;
use crate::demo::Generator;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// Events sent at once, where the rate is high enough that several are due.
const BATCH: usize = 100;
/// Further behind than this, the clock is set back: a hub that was full or slow gets no burst afterwards.
const FORGIVEN: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Events a second, evenly.
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = positive)]
    rate: f64,
    /// Instead of a rate, the events' own clock, this many times as fast as real time: pauses and bursts stay.
    #[arg(long, value_name = "X", conflicts_with = "rate", value_parser = positive)]
    speed: Option<f64>,
    /// The same seed gives the same events; random without it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= 1e6 => Ok(number),
        _ => Err(format!("expected a number above 0, at most 1,000,000, found {text:?}")),
    }
}

pub(super) async fn run(client: &Client, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (pace, how) = match args.speed {
        Some(speed) => (Pace::Speed(speed), format!("{speed} times as fast as they happen")),
        None => (Pace::Rate(args.rate), format!("{} a second", args.rate)),
    };
    note(format_args!("playing the events of seed {seed}, {how}; ctrl-c ends it, `busway tail` shows them"));
    let mut sender = Sender::new(client);
    let result = tokio::select! {
        result = play(&mut sender, Generator::new(seed), &pace, args.count.unwrap_or(u64::MAX)) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    note(sender.totals());
    result.map(|()| ExitCode::SUCCESS)
}

/// When events are due.
#[derive(Debug)]
enum Pace {
    /// So many a second.
    Rate(f64),
    /// So many times as fast as their own clock.
    Speed(f64),
}

impl Pace {
    /// How long after the start the event `index` (from 0) that happens at `offset` is due.
    fn due(&self, index: u64, offset: Duration) -> Duration {
        match self {
            Self::Rate(rate) => Duration::from_secs_f64(index as f64 / rate),
            Self::Speed(speed) => offset.div_f64(*speed),
        }
    }
}

async fn play(sender: &mut Sender<'_>, events: Generator, pace: &Pace, count: u64) -> anyhow::Result<()> {
    let mut start = Instant::now();
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
    for (index, (offset, event)) in (0..count).zip(events) {
        let due = start + pace.due(index, offset);
        if due > Instant::now() || batch.len() == BATCH {
            send(sender, &mut batch).await?;
        }
        let now = Instant::now();
        if now > due + FORGIVEN {
            start += now - due;
        }
        tokio::time::sleep_until(due).await;
        batch.push(event.to_string());
    }
    send(sender, &mut batch).await
}

async fn send(sender: &mut Sender<'_>, batch: &mut Vec<String>) -> anyhow::Result<()> {
    if !batch.is_empty() {
        let events: Vec<&str> = batch.iter().map(String::as_str).collect();
        sender.send(&events).await?;
        batch.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_even_or_follows_the_clock() {
        let offset = Duration::from_secs(10);
        assert_eq!(Pace::Rate(20.0).due(40, offset), Duration::from_secs(2));
        assert_eq!(Pace::Speed(4.0).due(40, offset), Duration::from_millis(2500));
    }

    #[test]
    fn a_rate_is_a_positive_number() {
        assert_eq!(positive("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }
}
