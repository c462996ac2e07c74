//! A hub that starts again with twenty plugins whose code was compiled before, one of them Python.

use crate::{
    guests::guest,
    put,
    report::{Report, quantile},
    runtime,
};
use busway::{config::Config, hub::Hub};
use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

const PLUGINS: u32 = 20;
const STARTS: usize = 10;
const MARK: &[u8] = b"probe-version-00000000";

pub(crate) fn run(report: &mut Report) {
    let Some(python) = env::var_os("BUSWAY_PYTHON_PLUGIN") else {
        println!(
            "restart is left out: BUSWAY_PYTHON_PLUGIN names no component (`busway plugin build plugins/python-counter`)"
        );
        return;
    };
    let python = fs::read(&python).unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let dir = tempfile::tempdir().expect("a directory");
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins).expect("a directory");
    let probe = guest("probe");
    let at = probe.windows(MARK.len()).position(|window| window == MARK).expect("the mark is in the probe");
    for number in 1..PLUGINS {
        let mut bytes = probe.clone();
        bytes[at + MARK.len() - 8..at + MARK.len()].copy_from_slice(format!("{number:08}").as_bytes());
        put(&plugins, &format!("probe-{number}"), &bytes, "");
    }
    put(&plugins, "python", &python, "");
    let first = start(dir.path());
    let mut times: Vec<f64> = (0..STARTS).map(|_| start(dir.path()).as_secs_f64() * 1e3).collect();
    let longest = quantile(&mut times, 1.0);
    report.row(
        &format!(
            "restart with {PLUGINS} plugins, one of them Python ({:.0} MB): all active, median / longest",
            python.len() as f64 / 1e6
        ),
        "≤ 1 s",
        &format!(
            "{:.0} / {longest:.0} ms; the first time, compiling, {:.1} s",
            quantile(&mut times, 0.5),
            first.as_secs_f64()
        ),
    );
}

/// How long until all plugins are active.
fn start(dir: &Path) -> Duration {
    let mut config = Config::default();
    config.journal.dir = dir.join("data");
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.plugins.dir = dir.join("plugins");
    let runtime = runtime();
    runtime.block_on(async {
        let began = Instant::now();
        let hub = Hub::start(config).await.expect("it starts");
        hub.ready().await;
        let active = || hub.plugins().all().iter().filter(|plugin| plugin.active().is_some()).count();
        while active() < PLUGINS as usize {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let time = began.elapsed();
        hub.shutdown().await;
        time
    })
}
