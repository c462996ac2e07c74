//! `busway plugin dev`: builds a project whenever its sources change, puts what comes of it into a hub's plugin directory, and shows the
//! plugin's calls. The hub is one that runs already, or one of its own in this process.
//!
//! A build that fails changes nothing: the version before goes on serving, and that is said.

mod hub;
mod sources;

use super::{
    build::{self, BuildArgs},
    calls::Follower,
    project::Project,
};
use crate::{
    cli::{
        client::{Client, ClientError},
        output::{Output, alarm, note},
    },
    plugin::Hash,
};
use anyhow::{Context, bail};
use hub::Embedded;
use serde::Deserialize;
use serde_json::value::RawValue;
use sources::Sources;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// How often the sources are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long the hub may take to load what was built: compiling a Python component takes half a minute on a slow machine.
const LOADING: Duration = Duration::from_secs(120);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(100);
/// How long its stream of calls may take to begin.
const CONNECTING: Duration = Duration::from_secs(5);
/// Events of one request.
const PAGE: usize = 100;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DevArgs {
    /// The project: a directory with a busway.toml.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Plugin directory of the hub that runs at --url; without it, a hub in this process, in memory and with this plugin only.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Where the hub in this process listens; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", conflicts_with = "plugins", value_parser = crate::listen::parse)]
    listen: SocketAddr,
    /// File with events, JSON lines or an array, to publish each time a new version is active.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Calls as JSON lines even on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: impl FnOnce() -> anyhow::Result<Client>, args: DevArgs) -> anyhow::Result<ExitCode> {
    let project = Project::read(&args.dir)?;
    let (hub, plugins, client) = match args.plugins {
        Some(plugins) if plugins.is_dir() => (None, plugins, client()?),
        Some(plugins) => bail!("expected the plugin directory of the hub, found no directory {}", plugins.display()),
        None => {
            let hub = Embedded::start(&project, args.listen).await?;
            let (plugins, url) = (hub.plugins().to_owned(), hub.url());
            note(format_args!(
                "a hub in memory at {url}; publish with: busway --url {url} publish --type TYPE --data JSON"
            ));
            (Some(hub), plugins, Client::new(&url)?)
        }
    };
    let dev = Dev { project, client, out: plugins, is_own: hub.is_some(), events: args.events, json: args.json };
    let result = tokio::select! {
        result = dev.work() => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if let Some(hub) = hub {
        hub.stop().await;
    }
    result.map(|()| ExitCode::SUCCESS)
}

struct Dev {
    project: Project,
    client: Client,
    /// The plugin directory.
    out: PathBuf,
    /// The hub is this process's own, and so is that directory.
    is_own: bool,
    events: Option<PathBuf>,
    json: bool,
}

impl Dev {
    async fn work(&self) -> anyhow::Result<()> {
        let mut shown: Option<AbortOnDropHandle<()>> = None;
        loop {
            let sources = Sources::of(&self.project)?;
            match self.build().await {
                Ok(()) => {
                    if self.is_active().await? {
                        if shown.is_none() {
                            shown = Some(self.show().await);
                        }
                        self.publish().await?;
                    }
                }
                Err(error) => fail("BUILD FAILED", &format!("{error:#}")),
            }
            note("waiting for changes; ctrl-c ends it");
            sources.changed(LOOK).await?;
        }
    }

    fn file(&self) -> PathBuf {
        self.out.join(format!("{}.wasm", self.project.name))
    }

    async fn build(&self) -> anyhow::Result<()> {
        if self.is_own {
            // The author's word is the operator's here.
            let sidecar = format!("{}.toml", self.project.name);
            let text = fs::read(self.project.dir.join(&sidecar)).unwrap_or_default();
            fs::write(self.out.join(&sidecar), text).context("cannot write the sidecar")?;
        }
        let args = BuildArgs { dir: self.project.dir.clone(), out: Some(self.file()), verbose: false };
        build::run(args).await.map(drop)
    }

    /// Waits until the hub has loaded what was built, or says why not.
    async fn is_active(&self) -> anyhow::Result<bool> {
        #[derive(Deserialize)]
        struct Status {
            state: String,
            sha256: Option<String>,
            generation: Option<u64>,
            last_error: Option<LastError>,
        }
        #[derive(Deserialize)]
        struct LastError {
            code: String,
            message: String,
            sha256: Option<String>,
        }
        let built = Hash::of(&fs::read(self.file()).context("cannot read what was built")?).to_hex();
        let until = Instant::now() + LOADING;
        let name = self.project.name.as_str();
        while Instant::now() < until {
            match self.client.get::<Status>(&["v1", "plugins", name], &[]).await {
                Ok(status) if status.sha256.as_deref() == Some(&built) => {
                    let generation = status.generation.unwrap_or_default();
                    note(format_args!("{name} is {}, generation {generation}", status.state));
                    return Ok(true);
                }
                Ok(Status { last_error: Some(error), .. })
                    if error.code.starts_with("load.") && error.sha256.as_ref().is_none_or(|of| *of == built) =>
                {
                    fail("NOT LOADED", &format!("{}: {}", error.code, error.message));
                    return Ok(false);
                }
                Ok(_) => {}
                // Not found yet.
                Err(error) if error.code() == Some("plugin.unknown") => {}
                Err(error @ (ClientError::Unreachable { .. } | ClientError::ProxyUnreachable { .. })) => {
                    return Err(error.into());
                }
                Err(error) => note(error),
            }
            tokio::time::sleep(ASK).await;
        }
        let place = self.out.display();
        fail("NOT LOADED", &format!("the hub has not taken up {name}.wasm: is {place} its plugin directory?"));
        Ok(false)
    }

    /// Shows calls from now on.
    async fn show(&self) -> AbortOnDropHandle<()> {
        let out = Output::stdout();
        let lines = out.is_terminal() && !self.json;
        let (client, name, connected) = (self.client.clone(), self.project.name.to_string(), Arc::<Notify>::default());
        let mut follower = Follower { client, name, out, lines, left: None, connected: connected.clone() };
        let task = tokio::spawn(async move {
            if let Err(error) = follower.follow().await {
                note(format_args!("calls are not shown any more: {error:#}"));
            }
        });
        // Then what is published next is among them. A hub that does not answer has been told of.
        let _ = timeout(CONNECTING, connected.notified()).await;
        AbortOnDropHandle::new(task)
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let Some(file) = &self.events else { return Ok(()) };
        let events = match read(file) {
            Ok(events) => events,
            Err(error) => {
                fail("NOT PUBLISHED", &format!("{error:#}"));
                return Ok(());
            }
        };
        for page in events.chunks(PAGE) {
            let answer = self.client.post::<Box<RawValue>>(&["v1", "events"], serde_json::to_string(page)?).await;
            if let Err(error) = answer {
                fail("NOT PUBLISHED", &error.to_string());
                break;
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Box<RawValue>>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).with_context(|| format!("{}: expected an array of events", file.display()));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("{}: line {}", file.display(), index + 1))
        })
        .collect()
}

/// Says what went wrong so that nobody overlooks it.
fn fail(what: &str, why: &str) {
    note(why);
    alarm(format_args!("{what}: the version before, if there is one, goes on serving"));
}
