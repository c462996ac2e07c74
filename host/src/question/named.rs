//! Asks a filter plugin by its name: whatever version of it is active when it is asked.

use super::Asker;
use crate::{
    event::Event,
    log::selection::{FilterFailure, Selection},
    metrics::Metrics,
    plugin::{
        Asking, CallError, Kind, Name, OnError, Params, Version,
        feed::Observed,
        registry::{Plugin, Registry},
        shadow::Answer,
    },
};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::task::AbortOnDropHandle;

/// How often a filter is asked about one event where others had the cores and its deadline passed.
const STARVED_TRIES: usize = 5;
/// Longest text of a failure, in bytes.
const MAX_DETAIL_BYTES: usize = 256;

/// Code of a [`FilterFailure`]: others had the cores, each of the times that the filter was asked.
pub const STARVED: &str = "filter.starved";
/// No version of the filter is in service.
const INACTIVE: &str = "filter.inactive";
/// The active version does not take the parameters.
const PARAMS: &str = "filter.params";
/// The filter returned an error.
const ERROR: &str = "filter.error";

/// A named filter with its parameters.
pub(super) struct Named {
    plugins: Registry,
    metrics: Arc<Metrics>,
    name: Name,
    /// The name again, as failures carry it.
    plugin: Arc<str>,
    params: Option<Value>,
    asker: Asker,
    checked: Mutex<Option<Checked>>,
}

/// The parameters as the version of a generation took them, or why it did not.
type Checked = (u64, Result<Params, Arc<str>>);

/// The filter's verdict on one event, or why it gave none.
enum Verdict {
    Answer(bool),
    None(FailureReason),
}

/// Why the filter gave no verdict.
#[derive(Clone)]
struct FailureReason {
    code: &'static str,
    detail: Arc<str>,
    /// Whether an event without a verdict passes.
    on_error: OnError,
}

impl FailureReason {
    fn new(code: &'static str, detail: impl Into<Arc<str>>, on_error: OnError) -> Self {
        Self { code, detail: detail.into(), on_error }
    }

    fn of(error: &CallError, is_starved: bool, on_error: OnError) -> Self {
        let code = match error {
            _ if is_starved => STARVED,
            CallError::Failure(_) => ERROR,
            CallError::Fault(fault) => fault.code.as_str(),
        };
        let text = match error {
            CallError::Failure(failure) => &failure.message,
            CallError::Fault(fault) => &fault.message,
        };
        Self::new(code, cut(text), on_error)
    }

    fn holds_back(&self) -> bool {
        self.on_error == OnError::Closed
    }
}

impl Verdict {
    /// Whether it is no verdict because the filter was starved, and its event does not pass.
    fn is_starved(&self) -> bool {
        matches!(self, Self::None(reason) if reason.code == STARVED && reason.holds_back())
    }
}

impl Named {
    pub(super) fn new(
        plugins: Registry,
        metrics: Arc<Metrics>,
        name: Name,
        params: Option<Value>,
        asker: Asker,
    ) -> Self {
        let plugin = name.as_str().into();
        Self { plugins, metrics, name, plugin, params, asker, checked: Mutex::default() }
    }

    /// Those of `events` that match, and where there was no verdict.
    pub(super) async fn select(self: Arc<Self>, events: Vec<Arc<Event>>) -> Selection {
        let events: Arc<[Arc<Event>]> = events.into();
        let (mut selection, mut asked) = (Selection::default(), 0);
        while asked < events.len() {
            if asked > 0 {
                // Others on this thread have a turn as well.
                tokio::task::yield_now().await;
            }
            for verdict in self.ask_some(&events, asked).await {
                let ends = self.ends_at(&verdict);
                self.add(&mut selection, &events[asked], verdict);
                asked += 1;
                if ends {
                    return selection;
                }
            }
        }
        selection
    }

    /// Whether nothing more is asked after this verdict: see [`super::Questions::resolve_later`].
    fn ends_at(&self, verdict: &Verdict) -> bool {
        self.asker == Asker::Operator && verdict.is_starved()
    }

    fn add(&self, selection: &mut Selection, event: &Arc<Event>, verdict: Verdict) {
        let passes = match verdict {
            Verdict::Answer(passes) => passes,
            Verdict::None(reason) => {
                self.metrics.view_filter_errors.inc();
                if reason.code == STARVED {
                    self.metrics.filter_starved.inc();
                }
                let passed = !reason.holds_back();
                let FailureReason { code, detail, .. } = reason;
                let (plugin, from, to) = (self.plugin.clone(), event.seq, event.seq);
                selection.fail(FilterFailure { plugin, code, from, to, count: 1, passed, detail });
                passed
            }
        };
        if passes {
            selection.events.push(event.clone());
        }
    }

    /// Verdicts on at least one of `events`, from that
    /// at `first` on, by the version that is active now.
    async fn ask_some(self: &Arc<Self>, events: &Arc<[Arc<Event>]>, first: usize) -> Vec<Verdict> {
        let no_answers = |code, detail: Arc<str>, on_error| {
            let reason = FailureReason::new(code, detail, on_error);
            events.iter().skip(first).map(|_| Verdict::None(reason.clone())).collect()
        };
        let Some(plugin) = self.plugins.get(self.name.as_str()) else {
            return no_answers(INACTIVE, "the plugin is not there".into(), OnError::Closed);
        };
        let is_filter = |version: &Arc<Version>| version.kind() == Kind::Filter;
        let Some(version) = plugin.active().filter(is_filter) else {
            // The operator's word on what its absence means
            // holds while it is disabled or in quarantine too.
            let on_error = plugin.current().filter(is_filter).map_or(OnError::Closed, |version| version.on_error());
            let detail = match plugin.active() {
                Some(_) => "the plugin is a handler".into(),
                None => format!("the plugin is {}", plugin.state().as_str()),
            };
            return no_answers(INACTIVE, detail.into(), on_error);
        };
        let on_error = version.on_error();
        let params = match self.params(&version).await {
            Ok(params) => params,
            Err(detail) => return no_answers(PARAMS, detail, on_error),
        };
        let Some(slow) = version.threads().cloned() else {
            return self.ask(&plugin, &version, &params, &events[first..]).await;
        };
        let (named, events) = (self.clone(), events.clone());
        let asking = async move { named.ask(&plugin, &version, &params, &events[first..]).await };
        // Ends with whoever asks.
        let asking = AbortOnDropHandle::new(slow.spawn(asking));
        let ended = |_| vec![Verdict::None(FailureReason::new(INACTIVE, "the hub is stopping", on_error))];
        asking.await.unwrap_or_else(ended)
    }

    /// Verdicts on at least the first of `events`, of which there is one.
    async fn ask(
        &self,
        plugin: &Plugin,
        version: &Arc<Version>,
        params: &Params,
        events: &[Arc<Event>],
    ) -> Vec<Verdict> {
        let mut asking = version.ask(params).await;
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events {
            let verdict = self.verdict(plugin, version, &mut asking, event).await;
            let ends = self.ends_at(&verdict);
            verdicts.push(verdict);
            if ends || !asking.may_go_on() {
                break;
            }
        }
        verdicts
    }

    async fn verdict(
        &self,
        plugin: &Plugin,
        version: &Arc<Version>,
        asking: &mut Asking<'_>,
        event: &Arc<Event>,
    ) -> Verdict {
        let mut said = plugin.feed().transcript();
        let mut result = asking.matches_with(event, said.as_mut()).await;
        for _ in 1..STARVED_TRIES {
            if !result.as_ref().is_err_and(|error| version.is_starved(error)) {
                break;
            }
            // That says nothing of the event: others had
            // the cores, and get them before the next try.
            tokio::task::yield_now().await;
            said = plugin.feed().transcript();
            result = asking.matches_with(event, said.as_mut()).await;
        }
        if let Some(said) = said {
            let answer = result.as_ref().map_or_else(Answer::failed, |verdict| Answer::verdict(*verdict, said.usage));
            let mut observed = Observed::of(version.clone(), event.clone(), answer, said);
            observed.params = asking.params().clone();
            plugin.feed().tell(observed);
        }
        let starved = result.as_ref().is_err_and(|error| version.is_starved(error));
        // A client must not be able to have a filter put in
        // quarantine for everybody by the parameters that it chooses.
        let accountable = self.asker == Asker::Operator || self.params.is_none();
        plugin.report(version, event, result.as_ref().err(), accountable && !starved);
        match result {
            Ok(answer) => Verdict::Answer(answer),
            Err(error) => Verdict::None(FailureReason::of(&error, starved, version.on_error())),
        }
    }

    /// Each version has its own schema: parameters that were
    /// right for the last one may be wrong for this one.
    async fn params(&self, version: &Version) -> Result<Params, Arc<str>> {
        let known = self.checked().as_ref().filter(|(generation, _)| *generation == version.generation()).cloned();
        if let Some((_, params)) = known {
            return params;
        }
        let params = version.check_params(self.params.clone()).await.map_err(|error| {
            cut(&format!("params{}: expected {}, found {}", error.pointer, error.expected, error.found))
        });
        *self.checked() = Some((version.generation(), params.clone()));
        params
    }

    fn checked(&self) -> MutexGuard<'_, Option<Checked>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> Arc<str> {
    match text.len() {
        0..=MAX_DETAIL_BYTES => text.into(),
        _ => format!("{}…", &text[..text.floor_char_boundary(MAX_DETAIL_BYTES - '…'.len_utf8())]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_failure_is_cut_between_characters() {
        assert_eq!(&*cut(&"ü".repeat(128)), "ü".repeat(128));
        let long = cut(&"ü".repeat(129));
        assert!(long.len() <= MAX_DETAIL_BYTES && long.ends_with("ü…"), "{long}");
    }
}
