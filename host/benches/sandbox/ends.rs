//! How fast a call is ended, and what comes after it.

use crate::{
    Lab,
    guest::{Guest, OK},
    guests::guest,
    report::{Report, quantile},
    runtime,
};
use busway::{bus::Bus, event::NewEvent, log::Step};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

const TRAPS: usize = 2_000;
const RUNAWAYS: usize = 200;
const DEADLINE: Duration = Duration::from_millis(100);

/// From the trap's event being published to the answer to the one behind it, of the same plugin, one call at a time.
pub(crate) fn trap(report: &mut Report) {
    runtime().block_on(async {
        let lab = Lab::start(|dir| {
            crate::put(dir, "probe", &guest("probe"), "retry.attempts = 1\nconcurrency = 1\nisolation = \"reuse\"\n");
        })
        .await;
        let (bus, plugins) = (lab.hub.bus(), lab.hub.plugins());
        let (mut without, mut after) = (Vec::new(), Vec::new());
        for index in 0..TRAPS + 100 {
            // Forgiven each time: the quarantine is not what is measured.
            plugins.enable("probe").await.expect("it is there");
            let own = answer(bus, &["probe.echo"], index).await;
            let trapped = answer(bus, &["probe.trap", "probe.echo"], index).await;
            if index >= 100 {
                without.push(own);
                after.push(trapped);
            }
        }
        let (p50, p99) = (quantile(&mut after, 0.5), quantile(&mut after, 0.99));
        let (own50, own99) = (quantile(&mut without, 0.5), quantile(&mut without, 0.99));
        report.row(
            "a trap, then the next call of the same plugin served: p50 / p99",
            "p99 ≤ 1 ms",
            &format!("{p50:.2} / {p99:.2} ms; without the trap {own50:.2} / {own99:.2} ms"),
        );
    });
}

async fn answer(bus: &Bus, types: &[&str], index: usize) -> f64 {
    let mut cursor = bus.log().cursor_at_head();
    let began = Instant::now();
    for event_type in types {
        bus.publish(NewEvent::new(*event_type).data(index).expect("JSON")).await.expect("there is room");
    }
    loop {
        let Some(Step::Events(chunk)) = cursor.next().await else { panic!("the log has all of it") };
        if chunk.events().iter().any(|event| event.event_type == "probed.echo") {
            return began.elapsed().as_secs_f64() * 1e3;
        }
    }
}

/// How much later than its deadline a call that loops for ever is over, with other work on all cores.
pub(crate) fn runaway(report: &mut Report) {
    let over = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let busy: Vec<_> = (0..cores)
        .map(|_| {
            let over = over.clone();
            thread::spawn(move || while !over.load(Relaxed) {})
        })
        .collect();
    let mut late = runtime().block_on(async {
        let lab = Lab::start(|dir| {
            let wasm = wat::parse_str(Guest::handler(format!("(loop $l (br $l)) {OK}")).wat()).expect("WAT");
            crate::put(dir, "runaway", &wasm, "limits.fuel = 1_000_000_000_000\n");
        })
        .await;
        let version = lab.hub.plugins().get("runaway").and_then(|plugin| plugin.active()).expect("it is active");
        let mut late = Vec::new();
        while late.len() < RUNAWAYS {
            let calls = (0..4).map(|_| {
                let version = version.clone();
                let threads = version.threads().cloned().unwrap_or_else(tokio::runtime::Handle::current);
                threads.spawn(async move {
                    let event = NewEvent::new("task.created").admit().expect("an event");
                    let began = Instant::now();
                    assert!(version.handle(&event, 1).await.is_err());
                    (began.elapsed() - DEADLINE).as_secs_f64() * 1e3
                })
            });
            for call in calls.collect::<Vec<_>>() {
                late.push(call.await.expect("no panic"));
            }
        }
        late
    });
    over.store(true, Relaxed);
    busy.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let (p50, p99) = (quantile(&mut late, 0.5), quantile(&mut late, 0.99));
    report.row(
        "an endless loop, four at once, all cores busy: over so much later than its deadline, p50 / p99",
        "p99 ≤ 20 ms",
        &format!("{p50:.1} / {p99:.1} ms"),
    );
}
