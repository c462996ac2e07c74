//! Tables made from the hub's JSON. They follow what is there instead of a fixed form, so that a hub of another
//! version can be shown as well.

use super::{columns, fit, grouped, harmless};
use serde_json::Value;

/// A plugin's columns, in this order, as far as any plugin has them.
const PLUGIN_COLUMNS: &[&str] =
    &["name", "kind", "version", "state", "calls", "ok", "failures", "faults", "emitted", "last_error"];

/// The widest cell; `last_error` may be a whole paragraph.
const WIDEST: usize = 60;

/// One fact a line: names on the left, numbers grouped; what is nested has its path as a name.
pub(in crate::cli) fn facts(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    let width = rows.iter().map(|(name, _)| columns(name)).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| {
        let gap = " ".repeat(width - columns(name));
        format!("{name}{gap}  {value}").trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let name = harmless(&name.replace('_', " "));
                flatten(&if path.is_empty() { name } else { format!("{path} · {name}") }, member, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path} {}", index + 1), item, rows);
            }
        }
        _ => rows.push((path.to_string(), cell(value))),
    }
}

/// A scalar as a person writes it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.into(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(number)) => format!("{number:.1}"),
            (None, None) => number.to_string(),
        },
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => harmless(text),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(_) => "-".into(),
    }
}

/// What a plugin's column shows: counts by reason as their sum, an error as its message.
fn column(value: &Value) -> Value {
    match value {
        Value::Object(members) if members.contains_key("message") => members["message"].clone(),
        Value::Object(members) if members.values().all(Value::is_u64) => {
            members.values().filter_map(Value::as_u64).sum::<u64>().into()
        }
        _ => value.clone(),
    }
}

/// A line for each plugin, numbers on the right of their column.
pub(in crate::cli) fn plugins(statuses: &[Value]) -> String {
    if statuses.is_empty() {
        return "no plugins: put a .wasm file into the plugin directory".into();
    }
    table(PLUGIN_COLUMNS, statuses)
}

/// A line for each value, with those of the columns that any of them has; numbers on the right of their column.
pub(in crate::cli) fn table(names: &[&str], values: &[Value]) -> String {
    let shown: Vec<&str> =
        names.iter().copied().filter(|name| values.iter().any(|value| !value[name].is_null())).collect();
    let values: Vec<Vec<Value>> =
        values.iter().map(|value| shown.iter().map(|name| column(&value[name])).collect()).collect();
    let mut rows = vec![shown.iter().map(|name| name.replace('_', " ").to_uppercase()).collect::<Vec<_>>()];
    rows.extend(values.iter().map(|cells| cells.iter().map(|value| fit(&cell(value), WIDEST)).collect()));
    let width = |column: usize| rows.iter().map(|row| columns(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..shown.len()).map(width).collect();
    let is_number = |index: usize| values.iter().all(|cells| cells[index].is_number() || cells[index].is_null());
    let number: Vec<bool> = (0..shown.len()).map(is_number).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, text)| {
            let gap = " ".repeat(widths[column] - columns(text));
            if number[column] { format!("{gap}{text}") } else { format!("{text}{gap}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_aligned_and_nested_ones_have_a_path() {
        let stats = json!({"head": 1234567, "running": true, "events_rejected": {"full": 0}, "tags": ["a", "b"]});
        let expected = "events rejected · full  0\nhead                    1,234,567\n\
                        running                 yes\ntags                    a, b";
        assert_eq!(facts(&stats), expected);
    }

    #[test]
    fn lists_of_objects_are_numbered() {
        let status = json!({"versions": [{"state": "active"}, {"state": "draining"}]});
        assert_eq!(facts(&status), "versions 1 · state  active\nversions 2 · state  draining");
    }

    #[test]
    fn plugins_show_the_columns_that_any_of_them_has() {
        let statuses = [
            json!({"name": "redact", "state": "active", "calls": 1200, "faults": {"fuel": 1, "trap": 2}}),
            json!({"name": "x", "faults": {}, "last_error": {"code": "load", "message": "bad\nfile"}}),
        ];
        let expected = "NAME    STATE   CALLS  FAULTS  LAST ERROR\nredact  active  1,200       3  -\n\
                        x       -           -       0  bad file";
        assert_eq!(plugins(&statuses), expected);
        assert!(plugins(&[]).starts_with("no plugins"));
    }
}
