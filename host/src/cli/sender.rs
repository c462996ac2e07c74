//! Publishing with back-pressure, for `publish` and `demo`: batches go out one after the other, in order; a hub that
//! is full is waited for; nothing is sent again that may have arrived.

use super::client::{Client, ClientError, Problem};
use super::output::note;
use super::render::grouped;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// Where a full hub does not say how long to wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
/// More than this is not waited at once, whatever the hub says.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Waits up to this long are everyday back-pressure and not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(5);
/// What rounds to nothing is not in the summary.
const WORTH_COUNTING: Duration = Duration::from_millis(50);

/// Why a batch was not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The hub refused the event at `index`, and so the batch: none of it is published.
    #[error("{problem}")]
    Refused { index: usize, problem: Box<Problem> },
    /// The batch is too large for the hub; smaller ones may do. None of it is published.
    #[error("{0}")]
    TooLarge(Box<Problem>),
    /// Nothing of this kind will work now.
    #[error(transparent)]
    Failed(ClientError),
}

/// What has been published so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Totals {
    pub(super) published: u64,
    first: Option<u64>,
    last: Option<u64>,
    waited: Duration,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.published == 1 { "" } else { "s" };
        write!(f, "published {} event{plural}", grouped(self.published))?;
        match (self.first, self.last) {
            (Some(first), Some(last)) if first == last => write!(f, ", seq {first}")?,
            (Some(first), Some(last)) => write!(f, ", seq {first} to {last}")?,
            _ => {}
        }
        if self.waited >= WORTH_COUNTING {
            write!(f, ", waited {:.1} s for a full hub", self.waited.as_secs_f64())?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Answer {
    events: Vec<Receipt>,
}

#[derive(Deserialize)]
struct Receipt {
    seq: u64,
}

/// Publishes batches and counts.
pub(super) struct Sender<'a> {
    client: &'a Client,
    totals: Totals,
    /// Waited since something last got through.
    patience: Duration,
}

impl<'a> Sender<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, totals: Totals::default(), patience: Duration::ZERO }
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Publishes `events` (JSON texts), all or nothing. Retries for as
    /// long as the hub is full or its admission filters are starved.
    pub(super) async fn send(&mut self, events: &[&str]) -> Result<(), SendError> {
        let body = format!("[{}]", events.join(","));
        loop {
            let error = match self.client.post::<Answer>(&["v1", "events"], body.clone()).await {
                Ok(answer) => {
                    self.count(&answer);
                    return Ok(());
                }
                Err(ClientError::Problem(problem)) if is_passing(&problem) => {
                    self.wait(problem.retry_after).await;
                    continue;
                }
                Err(error) => error,
            };
            return Err(match error {
                ClientError::Problem(problem) => refusal(problem, events.len()),
                other => SendError::Failed(other),
            });
        }
    }

    fn count(&mut self, answer: &Answer) {
        self.patience = Duration::ZERO;
        self.totals.published += answer.events.len() as u64;
        self.totals.last = answer.events.last().map(|receipt| receipt.seq).or(self.totals.last);
        self.totals.first = self.totals.first.or(answer.events.first().map(|receipt| receipt.seq));
    }

    async fn wait(&mut self, asked: Option<Duration>) {
        let wait = asked.unwrap_or(DEFAULT_WAIT).clamp(Duration::from_millis(10), LONGEST_WAIT);
        let before = self.patience;
        self.patience += wait;
        if before <= WORTH_A_WORD && self.patience > WORTH_A_WORD {
            note("the hub has been full or busy for a while; still waiting, nothing is lost");
        }
        self.totals.waited += wait;
        tokio::time::sleep(wait).await;
    }
}

/// Whether the hub takes the same events as soon as it is less busy.
fn is_passing(problem: &Problem) -> bool {
    problem.status == 429 || problem.code == "publish.unanswered"
}

/// Sorts the hub's refusals: about one event, about the size, about everything.
fn refusal(problem: Box<Problem>, batch: usize) -> SendError {
    match (problem.status, problem.index) {
        (400 | 413 | 422, Some(index)) if index < batch => SendError::Refused { index, problem },
        (413, _) if batch > 1 => SendError::TooLarge(problem),
        (400 | 413 | 422, None) if batch == 1 => SendError::Refused { index: 0, problem },
        _ => SendError::Failed(ClientError::Problem(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, index: Option<usize>) -> Box<Problem> {
        let json = serde_json::json!({"code": "x", "status": status, "index": index});
        Box::new(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn refusals_are_about_one_event_the_size_or_everything() {
        assert!(matches!(refusal(problem(400, Some(2)), 3), SendError::Refused { index: 2, .. }));
        assert!(matches!(refusal(problem(422, None), 1), SendError::Refused { index: 0, .. }));
        assert!(matches!(refusal(problem(413, None), 1), SendError::Refused { index: 0, .. }));
        assert!(matches!(refusal(problem(413, None), 3), SendError::TooLarge(_)));
        assert!(matches!(refusal(problem(400, None), 3), SendError::Failed(_)));
        assert!(matches!(refusal(problem(400, Some(9)), 3), SendError::Failed(_)));
        assert!(matches!(refusal(problem(503, None), 1), SendError::Failed(_)));
    }

    #[test]
    fn events_that_nobody_had_time_to_judge_are_sent_again() {
        let problem = |status, code| Problem { code, ..*problem(status, None) };
        assert!(is_passing(&problem(503, "publish.unanswered".into())));
        assert!(is_passing(&problem(429, "publish.full".into())));
        assert!(!is_passing(&problem(503, "publish.stopped".into())));
    }

    #[test]
    fn totals_read_as_a_sentence() {
        let none = Totals::default();
        assert_eq!(none.to_string(), "published 0 events");
        let one = Totals { published: 1, first: Some(7), last: Some(7), ..none.clone() };
        assert_eq!(one.to_string(), "published 1 event, seq 7");
        let many = Totals { published: 1200, first: Some(7), last: Some(1206), waited: Duration::from_millis(2500) };
        assert_eq!(many.to_string(), "published 1,200 events, seq 7 to 1206, waited 2.5 s for a full hub");
    }
}
