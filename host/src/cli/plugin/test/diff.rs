//! Two values line by line. Pure.

use crate::cli::render::harmless;
use clap::builder::styling::AnsiColor;
use serde_json::Value;

/// Longest value that is shown within a line, in characters.
const MAX_SHOWN: usize = 200;
/// Lines of each side that are compared; the rest is shown as it is.
const MAX_COMPARED: usize = 2_000;
/// Lines that are shown around those that differ.
const AROUND: usize = 3;

/// A line of either side, or of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Both(String),
    Expected(String),
    Found(String),
}

/// The lines of both, as pretty JSON.
pub(super) fn of(expected: &Value, found: &Value) -> Vec<Line> {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (expected, found) = (text(expected), text(found));
    let (mut expected, mut found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(one, other)| one == other).count();
    let mut lines: Vec<Line> = expected.drain(..same).map(|line| Line::Both(line.to_owned())).collect();
    found.drain(..same);
    let rest = (expected.split_off(expected.len().min(MAX_COMPARED)), found.split_off(found.len().min(MAX_COMPARED)));
    between(&expected, &found, &mut lines);
    lines.extend(rest.0.iter().map(|line| Line::Expected((*line).to_owned())));
    lines.extend(rest.1.iter().map(|line| Line::Found((*line).to_owned())));
    lines
}

/// By the longest common subsequence.
fn between(expected: &[&str], found: &[&str], lines: &mut Vec<Line>) {
    let width = found.len() + 1;
    let mut longest = vec![0u16; (expected.len() + 1) * width];
    for (row, line) in expected.iter().enumerate().rev() {
        for (column, other) in found.iter().enumerate().rev() {
            let at = row * width + column;
            longest[at] =
                if line == other { longest[at + width + 1] + 1 } else { longest[at + 1].max(longest[at + width]) };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < expected.len() || column < found.len() {
        let at = row * width + column;
        match (expected.get(row), found.get(column)) {
            (Some(line), Some(other)) if line == other => {
                lines.push(Line::Both((*line).to_owned()));
                (row, column) = (row + 1, column + 1);
            }
            (Some(line), other) if other.is_none() || longest[at + width] >= longest[at + 1] => {
                lines.push(Line::Expected((*line).to_owned()));
                row += 1;
            }
            (_, other) => {
                lines.extend(other.map(|other| Line::Found((*other).to_owned())));
                column += 1;
            }
        }
    }
}

/// The lines that differ and some around them: `-` is what was expected, `+` what was found.
pub(super) fn text(lines: &[Line], colour: bool) -> String {
    let differs: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Both(_))).map(|(index, _)| index).collect();
    let near = |index: usize| differs.iter().any(|other| index.abs_diff(*other) <= AROUND);
    let mut out: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if !near(index) {
            if out.last().is_none_or(|last| last != "  …") {
                out.push("  …".to_owned());
            }
            continue;
        }
        let (mark, text, style) = match line {
            Line::Both(text) => (' ', text, None),
            Line::Expected(text) => ('-', text, Some(AnsiColor::Red.on_default())),
            Line::Found(text) => ('+', text, Some(AnsiColor::Green.on_default())),
        };
        let text = format!("{mark} {}", harmless(text));
        out.push(match style.filter(|_| colour) {
            Some(style) => format!("{style}{text}{style:#}"),
            None => text,
        });
    }
    out.join("\n")
}

/// A value within a line, cut where it is long.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = harmless(text).chars().take(MAX_SHOWN + 1).collect();
    if shown.chars().count() > MAX_SHOWN {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_that_differ_stand_beside_each_other_and_far_ones_are_left_out() {
        let wanted = json!({"a": 1, "b": [1, 2, 3, 4, 5, 6, 7], "c": "x\u{1b}"});
        let found = json!({"a": 2, "b": [1, 2, 3, 4, 5, 6, 7], "c": "x\u{1b}"});
        let expected = "  {\n-   \"a\": 1,\n+   \"a\": 2,\n    \"b\": [\n      1,\n      2,\n  …";
        assert_eq!(text(&of(&wanted, &found), false), expected);
        let same = of(&found, &found);
        assert!(same.iter().all(|line| matches!(line, Line::Both(_))));
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let lines = of(&json!([1, 2]), &json!([2]));
        assert_eq!(text(&lines, false), "  [\n-   1,\n    2\n  ]");
        assert!(text(&lines, true).contains("\u{1b}[31m-   1,\u{1b}[0m"));
    }

    #[test]
    fn very_long_values_are_compared_as_far_as_it_is_worth() {
        let many = |value: usize| Value::from((0..MAX_COMPARED + 500).map(|n| n * value).collect::<Vec<_>>());
        assert!(of(&many(1), &many(2)).len() > MAX_COMPARED);
    }
}
