//! What people read: one line for an event, tables for numbers and plugins. Pure: text in, text out.
//!
//! What events hold was written by others, so nothing of it reaches a terminal that could steer the terminal.

mod table;

pub(super) use table::{facts, plugins, table};

use crate::text;
use chrono::{DateTime, Local};
use clap::builder::styling::{AnsiColor, Style};
use serde::Deserialize;
use serde_json::value::RawValue;
use unicode_width::UnicodeWidthChar;

/// Terminals below this width get no columns, only spaces between the parts: what counts is the data.
const ROOMY: usize = 100;

/// What a line shows of an event.
#[derive(Debug, Deserialize)]
struct Shown<'a> {
    seq: u64,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
    metadata: ShownMetadata,
}

#[derive(Debug, Deserialize)]
struct ShownMetadata {
    timestamp: DateTime<Local>,
    source: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// A line for an event: time, seq, type, source, tags, data, cut to `width` columns. An event of a form not known here
/// is shown as its JSON.
pub(super) fn event_line(json: &str, width: usize, colour: bool) -> String {
    let Ok(event) = serde_json::from_str::<Shown>(json) else { return fit(&harmless(json), width) };
    let padded = |text: String, to: usize| if width < ROOMY { text } else { format!("{text:<to$}") };
    let paint = |style: Style, text: &str| if colour { format!("{style}{text}{style:#}") } else { text.to_string() };
    let dim = Style::new().dimmed();
    let tags: Vec<String> = event.metadata.tags.iter().map(|tag| format!("#{}", harmless(tag))).collect();
    let source = harmless(event.metadata.source.as_deref().unwrap_or("-"));
    let parts = [
        (dim, event.metadata.timestamp.format("%H:%M:%S%.3f").to_string()),
        (dim, format!("{:>6}", event.seq)),
        (type_style(&event.event_type), padded(harmless(&event.event_type), 27)),
        (AnsiColor::Blue.on_default(), padded(source, 10)),
        (AnsiColor::Yellow.on_default(), tags.join(" ")),
    ];
    let mut line = String::new();
    let mut left = width;
    for (style, text) in parts.iter().filter(|(_, text)| !text.is_empty()) {
        let text = fit(text, left);
        line.push_str(&paint(*style, &text));
        left -= columns(&text);
        if left == 0 {
            return line;
        }
        line.push(' ');
        left -= 1;
    }
    line.push_str(&fit(&harmless(event.data.get()), left));
    line
}

/// The end of a type says how it went.
fn type_style(event_type: &str) -> Style {
    let last = event_type.rsplit('.').next().unwrap_or_default();
    if ["fail", "error", "cancel", "reject", "dead"].iter().any(|word| last.contains(word)) {
        return AnsiColor::Red.on_default().bold();
    }
    if ["complete", "executed", "response"].iter().any(|word| last.contains(word)) {
        return AnsiColor::Green.on_default();
    }
    AnsiColor::Cyan.on_default()
}

/// The text as one line without anything that steers a terminal: line breaks and tabs (between JSON
/// tokens, if anywhere) become spaces, the rest of what is unsafe escapes.
pub(super) fn harmless(text: &str) -> String {
    text::line(&text.replace(['\n', '\r', '\t'], " ")).into_owned()
}

fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts `text` to `width` columns, with an ellipsis where something is missing.
pub(super) fn fit(text: &str, width: usize) -> String {
    if width == 0 {
        return String::new();
    }
    let mut used = 0;
    let mut before_ellipsis = 0;
    for (index, c) in text.char_indices() {
        let next = used + c.width().unwrap_or(0);
        if next > width {
            return format!("{}…", &text[..before_ellipsis]);
        }
        if next < width {
            before_ellipsis = index + c.len_utf8();
        }
        used = next;
    }
    text.to_string()
}

/// A number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"seq":42,"type":"task.failed","data":{"a":"long enough to be cut off"},"metadata":{"event_id":"x","timestamp":"2026-11-22T07:35:00.123456Z","source":"executor-1","tags":["urgent","b"],"hops":0}}"#;

    #[test]
    fn a_line_has_time_seq_type_source_tags_and_as_much_data_as_fits() {
        let line = event_line(EVENT, 100, false);
        assert_eq!(columns(&line), 100, "{line}");
        let (time, rest) = line.split_at(12);
        assert!(time.ends_with(":00.123"), "{time}");
        assert_eq!(rest, "     42 task.failed                 executor-1 #urgent #b {\"a\":\"long enough to be cut o…");
        assert!(event_line(EVENT, 200, false).ends_with("cut off\"}"));
        assert!(event_line(EVENT, 80, false).contains("    42 task.failed executor-1 #urgent #b {\"a\":"));
    }

    #[test]
    fn a_line_never_wraps() {
        for width in 0..120 {
            let line = event_line(EVENT, width, false);
            assert!(columns(&line) <= width, "{width}: {line}");
        }
    }

    #[test]
    fn colours_do_not_change_the_text() {
        let coloured = event_line(EVENT, 100, true);
        let mut plain = String::new();
        for part in coloured.split('\u{1b}').enumerate() {
            plain.push_str(if part.0 == 0 { part.1 } else { part.1.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, event_line(EVENT, 100, false));
    }

    #[test]
    fn nothing_in_an_event_steers_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{9b}1m\u{7f}\u{202e}c\nd"), "a\\u001b[2Jb\\u009b1m\\u007f\\u202ec d");
        let event = EVENT.replace("long", "\u{9b}2J").replace("executor", "\u{9b}2J").replace("\"b\"", "\"\u{9b}\"");
        assert!(!event_line(&event, 200, false).chars().any(char::is_control));
        assert!(!event_line("\u{1b}[2J", 200, false).chars().any(char::is_control));
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 2), "a…");
        assert_eq!(fit("", 0), "");
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
