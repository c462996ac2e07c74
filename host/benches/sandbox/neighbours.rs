//! A healthy plugin at 1,000 events a second, alone and beside one that means harm, in turns. The harmful one is let out of quarantine at
//! once, again and again, which no hub does: what is measured is what its calls cost, not that there are no more of them.

use crate::{
    Lab,
    guest::{Guest, OK, RET, TEXT},
    guests::guest,
    report::{Report, quantile},
    round::round,
    runtime,
};
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 8;
const MANIFEST: &str = "retry.attempts = 1\nsubscriptions = [{ event_types = [\"harm.done\"] }]\n";
const GOOD: &str = "subscriptions = [{ event_types = [\"probe.echo\"] }]\n";
const UNLIMITED: &str = "limits.fuel = 1_000_000_000_000\n";

struct Harm {
    name: &'static str,
    body: String,
    manifest: &'static str,
    /// Events of its own for each of the healthy plugin's.
    share: f64,
}

fn times(count: u32, what: &str) -> String {
    format!(
        "(local.set $i (i32.const {count}))
         (loop $l {what} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    )
}

fn harms() -> Vec<Harm> {
    let harm = |name, body: String| Harm { name, body, manifest: "", share: 0.1 };
    let grow = format!("(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable {OK}");
    let touch = "(drop (memory.grow (i32.const 900))) (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 50000000)) (br $l))
                 (i32.const 64)";
    vec![
        harm("an endless loop", format!("(loop $l (br $l)) {OK}")),
        Harm {
            manifest: UNLIMITED,
            ..harm("an endless loop without a limit of fuel", format!("(loop $l (br $l)) {OK}"))
        },
        harm("a memory bomb", grow),
        Harm { manifest: UNLIMITED, ..harm("50 MB filled again and again", touch.into()) },
        Harm { share: 10.0, ..harm("a storm of traps, 10,000 a second", "unreachable".into()) },
        harm("99 % of the fuel each time", times(9_900_000, "")),
        Harm {
            manifest: UNLIMITED,
            ..harm("kv calls without end", times(10_000_000, &format!("(call $increment {TEXT} (i32.const 1) {RET})")))
        },
        harm("100,000 log lines each time", times(100_000, &format!("(call $log (i32.const 2) {TEXT})"))),
    ]
}

pub(crate) fn run(report: &mut Report) {
    runtime().block_on(async {
        let lab = Lab::start(|_| {}).await;
        lab.put("good", &guest("probe"), GOOD);
        active(&lab, "good").await;
        round(lab.hub.bus(), ROUND, None).await;
        for harm in harms() {
            beside(report, &lab, &harm).await;
        }
    });
}

async fn active(lab: &Lab, name: &str) {
    while lab.hub.plugins().get(name).is_none_or(|plugin| plugin.active().is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn beside(report: &mut Report, lab: &Lab, harm: &Harm) {
    let bus = lab.hub.bus();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let wasm = wat::parse_str(Guest::handler(harm.body.clone()).wat()).expect("WAT");
    let manifest = format!("{MANIFEST}{}", harm.manifest);
    lab.put("bad", &wasm, &manifest);
    active(lab, "bad").await;
    // Its first calls are not the healthy one's either.
    round(bus, ROUND / 4, Some(("harm.done", harm.share))).await;
    for _ in 0..ROUNDS {
        let _ = lab.hub.plugins().disable("bad").await;
        alone.extend(round(bus, ROUND, None).await);
        let plugins = lab.hub.plugins().clone();
        let forgiving = tokio::spawn(async move {
            loop {
                let _ = plugins.enable("bad").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        beside.extend(round(bus, ROUND, Some(("harm.done", harm.share))).await);
        forgiving.abort();
    }
    let calls = lab.hub.plugins().get("bad").map_or(0, |plugin| plugin.stats().counts().calls);
    for name in ["bad.wasm", "bad.toml"] {
        std::fs::remove_file(lab.dir.path().join(name)).expect("it was put there");
    }
    while lab.hub.plugins().get("bad").is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [p50, p99, own50, own99] = [
        quantile(&mut beside, 0.5),
        quantile(&mut beside, 0.99),
        quantile(&mut alone, 0.5),
        quantile(&mut alone, 0.99),
    ];
    report.row(
        &format!("a handler at 1,000 events/s beside {}, p50 / p99", harm.name),
        "≤ 2 ×",
        &format!(
            "{p50:.2} / {p99:.2} ms; alone {own50:.2} / {own99:.2} ms: **{:.2} ×** ({calls} harmful calls)",
            p99 / own99
        ),
    );
}
