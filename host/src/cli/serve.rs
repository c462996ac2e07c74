//! `busway serve`: runs the hub until it is told to stop.

use super::{
    output::{LogWriter, note},
    signals::Signals,
    supervisor::Supervisor,
};
use crate::{
    config::Config,
    confine::{Needs, confine},
    demo::Generator,
    event::NewEvent,
    hub::Hub,
    plugin::Compiler,
};
use anyhow::Context;
use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// What a shell adds to the number of the signal that ended a program.
const ENDED_BY: u8 = 128;

/// While plugins are loaded, a supervisor is told this often ...
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// ... that it is to wait for so much longer: a hub that hangs is noticed after that.
const EXTEND_BY: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory whose .wasm files are the plugins; overrides the configuration.
    #[arg(long, value_name = "DIR")]
    pub(super) plugins: Option<PathBuf>,
    /// Directory of the journal; overrides the configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub(super) data: Option<PathBuf>,
    /// Keep everything in memory: no journal, and what happened ends with the hub.
    #[arg(long)]
    pub(super) memory: bool,
    /// Address and port to listen on, such as 127.0.0.1:8787 or localhost:8787; overrides the
    /// configuration.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::listen::parse)]
    pub(super) listen: Option<SocketAddr>,
    /// Play made-up agent traffic into the hub, so many events a second.
    #[arg(long, value_name = "RATE", num_args = 0..=1, default_missing_value = "5", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) demo: Option<u32>,
    /// Log lines as JSON. RUST_LOG chooses which: `info`, `busway=debug`, …
    #[arg(long)]
    pub(super) log_json: bool,
}

/// The process confines itself before it reads a plugin's file, and before it has a second thread: what that gives up, only
/// threads that come later give up too.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    begin_logging(args.log_json);
    let demo = args.demo;
    let config = configuration(args)?;
    allow_files(&config);
    // Confined, it could not connect any more.
    let supervisor = Supervisor::connect();
    confine_to(&config)?;
    super::on_threads(serve(config, demo, supervisor))
}

fn configuration(args: ServeArgs) -> anyhow::Result<Config> {
    let mut config = super::config::read(args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.http.listen = listen;
    }
    if let Some(plugins) = args.plugins {
        config.plugins.dir = plugins;
    }
    if let Some(data) = args.data {
        (config.journal.dir, config.journal.memory) = (data, false);
    }
    config.journal.memory |= args.memory;
    config.plugins.compiler = Compiler::this_program();
    Ok(config)
}

/// Gives up everything that a hub of this configuration does not need.
fn confine_to(config: &Config) -> anyhow::Result<()> {
    let write = writable(config);
    for dir in &write {
        make(dir, 0o700).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    }
    let plugins = &config.plugins.dir;
    make(plugins, 0o777).with_context(|| format!("cannot make the plugin directory {}", plugins.display()))?;
    let read = vec![kept_in(plugins)?];
    // A candidate is moved over the plugin's file when it is promoted.
    let rename = vec![plugins.clone()];
    let confined = confine(&config.confine, Needs { read, write, rename, listen: config.http.listen.port() })?;
    match confined.is_lacking() {
        true => tracing::warn!("confined: {confined}"),
        false => tracing::info!("confined: {confined}"),
    }
    Ok(())
}

/// The directories in which the hub writes; nowhere else can it.
fn writable(config: &Config) -> Vec<PathBuf> {
    let journal = (!config.journal.memory).then(|| config.journal.dir.clone());
    let cache = Some(config.compile_cache()).filter(|dir| !dir.as_os_str().is_empty());
    journal.into_iter().chain(cache).collect()
}

/// A rule is on what is there now: who makes a directory first makes it as its owner would.
fn make(dir: &Path, mode: u32) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Where the plugin directory lies. A rule holds for a directory and not for its name, so with one on the plugin directory alone, it
/// would be closed once it is removed and made again. Not the root, which would leave nothing closed.
fn kept_in(plugins: &Path) -> anyhow::Result<PathBuf> {
    let real = plugins.canonicalize().with_context(|| format!("cannot open {}", plugins.display()))?;
    let above = real.parent().filter(|above| above.parent().is_some());
    Ok(above.unwrap_or(&real).to_owned())
}

async fn serve(config: Config, demo: Option<u32>, supervisor: Supervisor) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let dir = config.plugins.dir.clone();
    let journal = match config.journal.memory {
        true => "events in memory".to_owned(),
        false => format!("events in {}/", config.journal.dir.display()),
    };
    let mut starting = std::pin::pin!(Hub::start(config));
    let mut ended = false;
    // A large journal takes its time to open.
    let hub = loop {
        tokio::select! {
            hub = &mut starting => break hub?,
            signal = signals.end() => {
                if std::mem::replace(&mut ended, true) {
                    return Ok(ExitCode::from(ENDED_BY + signal));
                }
                note("stopping as soon as the hub has started; a second signal ends it at once");
            }
        }
    };
    if ended {
        return stop(hub, signals, &supervisor).await;
    }
    let addr = hub.addr();
    note(format_args!("listening on http://{addr}, plugins from {}/, {journal}; ctrl-c ends it", dir.display()));
    tokio::select! {
        () = loaded(&hub, &supervisor) => {}
        _ = signals.end() => return stop(hub, signals, &supervisor).await,
    }
    supervisor.tell("READY=1");
    let demo = demo.map(|rate| {
        note(format_args!("playing {rate} made-up events a second; `busway tail` shows them"));
        tokio::spawn(play(hub.bus().clone(), rate))
    });
    signals.end().await;
    if let Some(demo) = demo {
        demo.abort();
    }
    stop(hub, signals, &supervisor).await
}

/// Waits until the plugins are loaded. That may take longer than the supervisor gives a start: each has a bound of its own to be compiled
/// in, and of how many there are nobody knows before.
async fn loaded(hub: &Hub, supervisor: &Supervisor) {
    let mut step = tokio::time::interval(EXTEND_EVERY);
    loop {
        tokio::select! {
            () = hub.ready() => return,
            _ = step.tick() => supervisor.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros())),
        }
    }
}

async fn stop(hub: Hub, mut signals: Signals, supervisor: &Supervisor) -> anyhow::Result<ExitCode> {
    supervisor.tell("STOPPING=1");
    note("finishing what is under way; a second signal ends at once");
    tokio::select! {
        finished = hub.shutdown() => {
            if !finished {
                note("not everything had finished in time");
            }
            Ok(ExitCode::SUCCESS)
        }
        signal = signals.end() => Ok(ExitCode::from(ENDED_BY + signal)),
    }
}

fn begin_logging(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(LogWriter::colour()).with_writer(LogWriter::new);
    // Set already only where a program runs this as a library; then its own choice stands.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

/// Every connection is a file to the system, and its usual limit of 1,024 is less than the hub is asked to bear.
fn allow_files(config: &Config) {
    const OWN: u64 = 256;
    let wanted = config.http.max_connections as u64 + OWN;
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let allowed = limits.maximum.map_or(wanted, |most| most.min(wanted));
    if limits.current.is_none_or(|now| now >= wanted) {
        return;
    }
    let raised = rustix::process::Rlimit { current: Some(allowed), maximum: limits.maximum };
    if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_err() || allowed < wanted {
        note(format_args!("the system allows {allowed} open files, fewer than max_connections needs ({wanted})"));
    }
}

async fn play(bus: crate::bus::Bus, rate: u32) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for (_, event) in Generator::new(fastrand::u64(..)) {
        tick.tick().await;
        if let Ok(event) = serde_json::from_value::<NewEvent>(event) {
            // A full hub drops it and counts it: nobody waits for made-up events.
            let _ = bus.publish(event).await;
        }
    }
}
