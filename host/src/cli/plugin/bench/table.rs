//! Two measurements side by side, as a person reads them. Pure.

use super::figures::{Figures, Spread};
use crate::cli::render::grouped;
use std::collections::BTreeSet;

/// The columns, under a line that says what was measured.
pub(super) fn of(what: &str, fresh: &Figures, reuse: &Figures) -> String {
    let mut rows = vec![[String::new(), "fresh".into(), "reuse".into()]];
    let mut row = |name: &str, of: &dyn Fn(&Figures) -> String| rows.push([name.to_owned(), of(fresh), of(reuse)]);
    row("calls", &|figures| grouped(figures.calls));
    row("calls per second", &|figures| grouped(figures.calls_per_second as u64));
    for (name, of) in PLACES {
        row(&format!("time {name}"), &|figures| format!("{:.1} µs", of(&figures.time_us)));
    }
    for (name, of) in PLACES {
        row(&format!("fuel {name}"), &|figures| grouped(of(&figures.fuel) as u64));
    }
    row("memory", &|figures| format!("{} KiB", grouped(figures.memory as u64 >> 10)));
    row("ok", &|figures| grouped(figures.ok));
    row("emitted", &|figures| grouped(figures.emitted));
    if fresh.conflicts + reuse.conflicts > 0 {
        row("kv conflicts", &|figures| grouped(figures.conflicts));
    }
    let codes =
        |of: fn(&Figures) -> Vec<&'static str>| -> BTreeSet<_> { of(fresh).into_iter().chain(of(reuse)).collect() };
    for kind in codes(|figures| figures.failures.keys().copied().collect()) {
        row(&format!("failure {kind}"), &|figures| grouped(figures.failures.get(kind).copied().unwrap_or(0)));
    }
    for code in codes(|figures| figures.faults.keys().copied().collect()) {
        row(&format!("fault {code}"), &|figures| grouped(figures.faults.get(code).copied().unwrap_or(0)));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (names, first, second) = (width(0), width(1), width(2));
    let lines = rows.iter().map(|[name, fresh, reuse]| format!("{name:<names$}  {fresh:>first$}  {reuse:>second$}"));
    std::iter::once(what.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

type Place = fn(&Spread) -> f64;

const PLACES: [(&str, Place); 5] = [
    ("min", |spread| spread.min),
    ("p50", |spread| spread.p50),
    ("p90", |spread| spread.p90),
    ("p99", |spread| spread.p99),
    ("max", |spread| spread.max),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plugin::bench::figures::Tally;
    use crate::plugin::Usage;
    use std::time::Duration;

    #[test]
    fn both_ways_stand_side_by_side_with_what_failed_in_either() {
        let figures = |calls: u64, fault: bool| {
            let mut tally = Tally::default();
            for _ in 0..calls {
                tally.used(&Usage { fuel: 1_500, nanoseconds: 20_000, memory: 2 << 20 });
                tally.ok(1);
            }
            if fault {
                tally.faults.insert("fuel", 3);
            }
            tally.into_figures(Duration::from_secs(2))
        };
        let text = of("x: 1 events", &figures(4_000, false), &figures(10, true));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "x: 1 events",
                "                      fresh      reuse",
                "calls                 4,000         10",
                "calls per second      2,000          5",
            ]
        );
        assert_eq!(lines[5], "time p50            20.0 µs    20.0 µs");
        assert_eq!(lines.last(), Some(&"fault fuel                0          3"));
    }
}
