//! One call as a person reads it: a line, and below it what it did. What a plugin said cannot steer the terminal.

use super::Call;
use crate::cli::render::{grouped, harmless};
use clap::builder::styling::{AnsiColor, Style};
use std::fmt::Write;

pub(super) fn of(call: &Call, colour: bool) -> String {
    let paint = |style: Style, text: &str| if colour { format!("{style}{text}{style:#}") } else { text.to_owned() };
    let (good, bad, dim) =
        (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold(), Style::new().dimmed());
    let result = match call.verdict {
        Some(verdict) => paint(good, if verdict { "true" } else { "false" }),
        None if call.ended == "ok" => paint(good, "ok"),
        None => paint(bad, &harmless(&call.ended)),
    };
    let attempt = if call.attempt > 1 { format!(", attempt {}", call.attempt) } else { String::new() };
    let used = format!("{} fuel, {} µs, {} KiB", grouped(call.fuel), grouped(call.time_us), grouped(call.memory >> 10));
    let mut text = format!("seq {} {}{attempt}  {result}  {}", call.seq, harmless(&call.event_type), paint(dim, &used));
    let mut add = |name: &str, what: &str| {
        // Into a string.
        let _ = write!(text, "\n    {name:<9}{what}");
    };
    if let Some(message) = &call.message {
        add("because", &harmless(message));
    }
    for event in &call.emitted {
        let tags: String = event.tags.iter().map(|tag| format!(" #{}", harmless(tag))).collect();
        let event_type = paint(AnsiColor::Cyan.on_default(), &harmless(&event.event_type));
        add("emitted", &format!("{event_type}{tags} {}", harmless(event.data.get())));
    }
    for line in &call.said.lines {
        let style = match line.level.as_str() {
            "error" => AnsiColor::Red.on_default(),
            "warn" => AnsiColor::Yellow.on_default(),
            _ => dim,
        };
        add(&harmless(&line.level), &paint(style, &harmless(&line.message)));
    }
    for (name, text) in [("stdout", &call.said.stdout), ("stderr", &call.said.stderr)] {
        text.lines().for_each(|line| add(name, &harmless(line)));
    }
    // The others are shown by what came of them.
    for host in call.said.trace.iter().filter(|host| host.denied || host.call.starts_with("kv")) {
        let mark = if host.denied { paint(bad, "denied ") } else { String::new() };
        add(&harmless(&host.call), &format!("{mark}{} → {}", harmless(&host.about), harmless(&host.answer)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_a_line_and_what_it_did_below_it() {
        let call = json!({
            "seq": 7, "event_id": "e", "type": "task.created", "attempt": 2, "ended": "ok", "sha256": "ab", "generation": 1,
            "emitted": [{"type": "a.b", "data": {"n": 1}, "tags": ["t"], "correlation_id": null, "extensions": {}}],
            "said": {"lines": [{"level": "warn", "message": "odd\u{1b}[2J"}], "stdout": "", "stderr": "x\ny",
                     "trace": [{"at_us": 3, "call": "kv.set", "about": "k", "answer": "1", "denied": false},
                               {"at_us": 4, "call": "log", "about": "warn", "answer": "odd", "denied": false}]},
            "fuel": 12345, "time_us": 99, "memory": 1 << 20
        });
        let call: Call = serde_json::from_value(call).unwrap();
        let expected = "seq 7 task.created, attempt 2  ok  12,345 fuel, 99 µs, 1,024 KiB\n    emitted  a.b #t {\"n\":1}\n    \
                        warn     odd\\u001b[2J\n    stderr   x\n    stderr   y\n    kv.set   k → 1";
        assert_eq!(of(&call, false), expected);
    }

    #[test]
    fn what_went_wrong_says_why() {
        let call = json!({
            "seq": 1, "type": "a", "attempt": 1, "ended": "fuel", "message": "used up", "emitted": [],
            "said": {"lines": [], "stdout": "", "stderr": ""}, "fuel": 1, "time_us": 1, "memory": 0
        });
        let call: Call = serde_json::from_value(call).unwrap();
        assert_eq!(of(&call, false), "seq 1 a  fuel  1 fuel, 1 µs, 0 KiB\n    because  used up");
        assert!(of(&call, true).contains("\u{1b}["));
    }
}
