//! A call as a person reads it. Pure: an outcome in, text out; what a plugin said cannot steer the terminal.

use super::{Budget, kind};
use crate::cli::plugin::try_out::{Outcome, changes};
use crate::cli::render::{grouped, harmless};
use crate::event::Event;
use crate::plugin::{CallError, HostCall, Level};
use clap::builder::styling::{AnsiColor, Style};

/// Width of the names on the left.
const NAMES: usize = 9;

pub(super) fn of(outcome: &Outcome, budget: &Budget, colour: bool) -> String {
    let paint = |style: Style, text: &str| if colour { format!("{style}{text}{style:#}") } else { text.to_owned() };
    let mut lines = Lines(Vec::new());
    let (good, bad) = (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold());
    match (&outcome.error, outcome.verdict) {
        (Some(error), _) => lines.add("result", &paint(bad, &failed(error))),
        (None, Some(true)) => lines.add("result", &paint(good, "true: the event passes")),
        (None, Some(false)) => lines.add("result", &paint(good, "false: the event is held back")),
        (None, None) => lines.add("result", &paint(good, "ok")),
    }
    for event in &outcome.emitted {
        lines.add("emitted", &emitted(event, &|text| paint(AnsiColor::Cyan.on_default(), text)));
    }
    let transcript = &outcome.transcript;
    for line in &transcript.lines {
        let style = match line.level {
            Level::Error => AnsiColor::Red.on_default(),
            Level::Warn => AnsiColor::Yellow.on_default(),
            _ => Style::new().dimmed(),
        };
        lines.add(
            "log",
            &format!("{} {}", paint(style, &format!("{:<5}", line.level.as_str())), harmless(&line.message)),
        );
    }
    for (key, before, after) in changes(&outcome.before, &outcome.after) {
        let value = |value: Option<&str>| value.map_or_else(|| paint(Style::new().dimmed(), "nothing"), harmless);
        lines.add("kv", &format!("{}: {} → {}", harmless(key), value(before), value(after)));
    }
    for (name, text) in [("stdout", &transcript.stdout), ("stderr", &transcript.stderr)] {
        text.lines().for_each(|line| lines.add(name, &harmless(line)));
    }
    for call in transcript.trace.iter().flatten() {
        lines.add("trace", &traced(call, &|text| paint(bad, text)));
    }
    for used in used(outcome, budget) {
        lines.add("used", &used);
    }
    lines.0.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// Names and their lines; a name is shown with the first of its lines.
struct Lines(Vec<(&'static str, String)>);

impl Lines {
    fn add(&mut self, name: &'static str, text: &str) {
        let shown = if self.0.last().is_some_and(|(last, _)| *last == name) { "" } else { name };
        self.0.push((name, format!("{shown:<NAMES$}{text}").trim_end().to_owned()));
    }
}

fn failed(error: &CallError) -> String {
    match error {
        CallError::Fault(fault) => format!("fault {}: {}", fault.code, harmless(&fault.message)),
        CallError::Failure(failure) => {
            let pause = failure.retry_after_ms.map(|ms| format!(", not before {ms} ms")).unwrap_or_default();
            format!("failed, {}{pause}: {}", kind(failure.kind), harmless(&failure.message))
        }
    }
}

fn emitted(event: &Event, paint: &dyn Fn(&str) -> String) -> String {
    let tags: String = event.metadata.tags.iter().map(|tag| format!(" #{}", harmless(tag))).collect();
    format!("{}{tags} {}", paint(&harmless(&event.event_type)), harmless(event.data.get()))
}

fn traced(call: &HostCall, paint: &dyn Fn(&str) -> String) -> String {
    let mark = if call.denied { paint("denied ") } else { String::new() };
    let (about, answer) = (harmless(&call.about), harmless(&call.answer));
    format!("{:>7} µs  {:<12}  {mark}{about} → {answer}", grouped(call.at_us), call.call)
}

fn used(outcome: &Outcome, budget: &Budget) -> [String; 3] {
    let usage = &outcome.transcript.usage;
    let percent = |part: u64, whole: u64| format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64);
    let time = usage.nanoseconds / 1_000;
    let (memory, most) = (usage.memory as u64, budget.memory);
    let share =
        |part, whole, unit| format!("{}{unit} of {}{unit}, {}", grouped(part), grouped(whole), percent(part, whole));
    [
        format!("{} fuel", share(usage.fuel, budget.fuel, "")),
        format!("{} of memory", share(memory >> 10, most >> 10, " KiB")),
        format!("{} of time", share(time, budget.deadline_us, " µs")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plugin::try_out::Memory;
    use crate::event::NewEvent;
    use crate::plugin::{Failure, FailureKind, LogLine, Transcript, Usage};

    fn outcome() -> Outcome {
        let mut transcript = Transcript::with_trace();
        transcript.lines = vec![LogLine { level: Level::Warn, message: "odd\u{1b}[2J".into() }];
        transcript.trace.as_mut().unwrap().push(HostCall {
            at_us: 1_234,
            call: "kv.get",
            about: "n".into(),
            answer: "denied: kv".into(),
            denied: true,
        });
        transcript.usage = Usage { fuel: 5_000, nanoseconds: 250_000, memory: 1 << 20 };
        let memory = |value: &str| Memory::from([("n".to_owned(), value.to_owned())]);
        let event = NewEvent::new("a.b").tag("t").data(7).unwrap().admit().unwrap();
        Outcome {
            verdict: None,
            emitted: vec![event],
            error: None,
            before: memory("1"),
            after: memory("2"),
            transcript,
        }
    }

    const BUDGET: Budget = Budget { fuel: 50_000, deadline_us: 1_000, memory: 64 << 20 };

    #[test]
    fn a_call_is_shown_with_all_that_came_of_it() {
        let expected = "result   ok\n\
                        emitted  a.b #t 7\n\
                        log      warn  odd\\u001b[2J\n\
                        kv       n: 1 → 2\n\
                        trace      1,234 µs  kv.get        denied n → denied: kv\n\
                        used     5,000 of 50,000, 10.00 % fuel\n         \
                                 1,024 KiB of 65,536 KiB, 1.56 % of memory\n         \
                                 250 µs of 1,000 µs, 25.00 % of time";
        assert_eq!(of(&outcome(), &BUDGET, false), expected);
    }

    #[test]
    fn a_failure_says_what_the_hub_would_do() {
        let failure = Failure { kind: FailureKind::Retry, message: "later".into(), retry_after_ms: Some(5) };
        let failed = Outcome { error: Some(failure.into()), ..outcome() };
        assert!(of(&failed, &BUDGET, false).starts_with("result   failed, retry, not before 5 ms: later\n"));
        let coloured = of(&failed, &BUDGET, true);
        assert!(coloured.contains("\u{1b}[") && !coloured.contains("[2J\u{1b}"));
    }
}
