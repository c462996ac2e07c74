//! JUnit XML, the form of it that all CI systems read.

use super::report::{Report, Verdict};
use anyhow::Context;
use std::{fmt::Write, path::Path};

/// Writes the file.
pub(super) fn write(file: &Path, plugin: &str, reports: &[Report]) -> anyhow::Result<()> {
    std::fs::write(file, document(plugin, reports)).with_context(|| format!("cannot write {}", file.display()))
}

fn document(plugin: &str, reports: &[Report]) -> String {
    let count = |is: fn(&Verdict) -> bool| reports.iter().filter(|report| is(&report.verdict)).count();
    let failures = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let errors = count(|verdict| matches!(verdict, Verdict::Refused(_)));
    let time: f64 = reports.iter().map(|report| report.time.as_secs_f64()).sum();
    let plugin = escaped(plugin);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let tests = reports.len();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{plugin}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{time:.3}\">"
    );
    for report in reports {
        let name = match report.description.as_str() {
            "" => escaped(&report.file),
            description => escaped(&format!("{}: {description}", report.file)),
        };
        let seconds = report.time.as_secs_f64();
        let _ = write!(out, "    <testcase classname=\"{plugin}\" name=\"{name}\" time=\"{seconds:.3}\"");
        let (element, message) = match &report.verdict {
            Verdict::Passed | Verdict::Updated => {
                out.push_str("/>\n");
                continue;
            }
            Verdict::Failed(differences) => {
                let first = differences.first();
                ("failure", first.map(|one| format!("{}: {}", one.pointer, one.problem)).unwrap_or_default())
            }
            Verdict::Refused(problem) => ("error", problem.clone()),
        };
        let (message, details) = (escaped(&message), escaped(&report.details(false)));
        let _ = writeln!(out, ">\n      <{element} message=\"{message}\">{details}</{element}>\n    </testcase>");
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// For text and for attributes in double quotes. What XML 1.0 cannot hold, not even escaped, becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader of attributes makes blanks of them.
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn whatever_stands_in_a_test_is_escaped() {
        let report = |description: &str, verdict| Report {
            file: "a.json".into(),
            description: description.into(),
            verdict,
            calls: Vec::new(),
            time: Duration::from_millis(1_500),
        };
        let reports = [
            report("", Verdict::Passed),
            report("a \"<&>\"\u{1b}", Verdict::Refused("x.json: line 2: \"]]>\n".into())),
        ];
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
            \x20 <testsuite name=\"p&amp;q\" tests=\"2\" failures=\"0\" errors=\"1\" time=\"3.000\">\n\
            \x20   <testcase classname=\"p&amp;q\" name=\"a.json\" time=\"1.500\"/>\n\
            \x20   <testcase classname=\"p&amp;q\" name=\"a.json: a &quot;&lt;&amp;&gt;&quot;\u{fffd}\" time=\"1.500\">\n\
            \x20     <error message=\"x.json: line 2: &quot;]]&gt;&#10;\">x.json: line 2: &quot;]]&gt; </error>\n\
            \x20   </testcase>\n  </testsuite>\n</testsuites>\n";
        assert_eq!(document("p&q", &reports), expected);
    }
}
