//! The composition root: puts the modules together, and takes them apart again in the right order.

use crate::{
    bus::{Admission, Bus, Refusal, Rejection},
    config::Config,
    event::NewEvent,
    http::{self, App, NotReady, Readiness},
    incoming,
    journal::{self, KvEntry, Memory},
    kv,
    log::{
        Log,
        selection::FilterFailure,
        view::{Question, Views},
    },
    metrics::Metrics,
    plugin::{
        FAULT_EVENT,
        lane::Lanes,
        registry::{ChangeKind, Faulted, Kept, Registry},
    },
    question::{Questions, STARVED, Wanted},
    ws,
};
use anyhow::Context;
use futures_util::FutureExt;
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{broadcast::error::RecvError, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long connections that were told to end may take to do so.
const CLOSING: Duration = Duration::from_secs(6);

/// A running hub.
pub struct Hub {
    app: Arc<App>,
    addr: SocketAddr,
    accepting: CancellationToken,
    ready: Arc<watch::Sender<Result<(), NotReady>>>,
    lanes: Lanes,
    drain_timeout: Duration,
}

impl Hub {
    /// Starts everything: the log and its journal, the plugins found in the directory, the listener. Returns once events are taken; the
    /// plugins may still be loading, see [`Hub::ready`].
    ///
    /// # Errors
    /// If the address cannot be listened on, the journal cannot be opened, the plugin directory cannot be made, or the engine
    /// cannot be set up.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let listen = config.http.listen;
        let listener = http::server::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        Self::start_on(listener, config).await
    }

    /// As [`Hub::start`], on a socket that listens already.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub async fn start_on(listener: TcpListener, mut config: Config) -> anyhow::Result<Self> {
        config.plugins.cache = config.compile_cache();
        config.plugins.markers = (!config.journal.memory).then(|| config.journal.dir.join("loading"));
        let addr = listener.local_addr()?;
        let metrics = Arc::new(Metrics::default());
        let (log, memory) = open_log(&config, metrics.clone()).await?;
        let (plugins, mut loaded) = Registry::start(&config.plugins, kept(memory, log.clone()))?;
        let questions = Questions::new(plugins.clone(), metrics.clone());
        let admission = admission(&config, &questions)?;
        let bus = Bus::start(&config.bus, log, admission);
        tokio::spawn(announce(plugins.clone(), bus.clone()));
        let (known, when_known) = oneshot::channel();
        let lanes = Lanes::start(bus.clone(), plugins.clone(), questions.clone(), when_known);
        let ready = Arc::new(watch::Sender::new(Err(NotReady::Loading)));
        let (views, closing) = (Views::new(bus.log().clone()), CancellationToken::new());
        let incoming = incoming::Budget::new(config.http.max_total_body_bytes, metrics.clone());
        let websocket = ws::Context {
            bus: bus.clone(),
            incoming: incoming.clone(),
            views: views.clone(),
            questions: questions.clone(),
            config: config.websocket,
            closing: closing.clone(),
        };
        let app = Arc::new(App {
            bus,
            views,
            plugins,
            questions,
            ready: ready.subscribe(),
            incoming,
            http: config.http.clone(),
            websocket: Arc::new(websocket),
            drained: CancellationToken::new(),
            closing,
            tasks: TaskTracker::new(),
        });
        let accepting = CancellationToken::new();
        let server = http::server::serve(
            listener,
            http::router(app.clone()),
            config.http,
            metrics,
            accepting.clone(),
            app.tasks.clone(),
        );
        app.tasks.spawn(server);
        let when_loaded = ready.clone();
        tokio::spawn(async move {
            let _ = (&mut loaded).await;
            let _ = known.send(());
            when_loaded.send_if_modified(|ready| {
                let loading = *ready == Err(NotReady::Loading);
                if loading {
                    *ready = Ok(());
                }
                loading
            });
        });
        let drain_timeout = config.shutdown.drain_timeout_s.duration();
        Ok(Self { app, addr, accepting, ready, lanes, drain_timeout })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bus, for code in the same process.
    pub fn bus(&self) -> &Bus {
        &self.app.bus
    }

    /// The plugins.
    pub fn plugins(&self) -> &Registry {
        &self.app.plugins
    }

    /// Follows whether the hub is ready.
    pub fn readiness(&self) -> Readiness {
        self.app.ready.clone()
    }

    /// Waits until the plugins that were there at the start are loaded.
    pub async fn ready(&self) {
        let _ = self.readiness().wait_for(Result::is_ok).await;
    }

    /// Stops in order: not ready, no new events and connections, handlers finish, clients get what is left and are closed
    /// with the seq to resume from. Returns whether everything had finished within the drain timeout.
    pub async fn shutdown(self) -> bool {
        let _ = self.ready.send_replace(Err(NotReady::Stopping));
        self.accepting.cancel();
        // What is being loaded is not waited for.
        let _ = timeout(CLOSING, self.app.plugins.stop_loading()).await;
        let drained = self.app.bus.stop(self.drain_timeout).await;
        self.lanes.stop().await;
        self.app.drained.cancel();
        // The log has ended, so every connection ends by itself once it has had all of it; who does not read is cut off.
        self.app.tasks.close();
        let mut gone = timeout(self.drain_timeout, self.app.tasks.wait()).await.is_ok();
        if !gone {
            self.app.closing.cancel();
            gone = timeout(CLOSING, self.app.tasks.wait()).await.is_ok();
        }
        drained && gone
    }
}

/// The log, on its journal if it has one, and what that knows of plugins.
async fn open_log(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<(Log, Memory)> {
    if config.journal.memory {
        return Ok((Log::in_memory(&config.log, metrics), Memory::default()));
    }
    let (journal, dedup) = (config.journal.clone(), (config.log.dedup_window(), config.log.dedup_events));
    let counted = metrics.clone();
    let (opened, memory) = tokio::task::spawn_blocking(move || journal::open(&journal, dedup, counted)).await??;
    Ok((Log::on_journal(&config.log, metrics, opened)?, memory))
}

/// What the journal knows of plugins, and how it is told more.
fn kept(memory: Memory, log: Log) -> Kept {
    let store = kv::Store::new(kv::Quota::default());
    for KvEntry { plugin, key, value } in memory.kv {
        store.restore(&plugin, key, value);
    }
    let save = move |change| {
        let log = log.clone();
        let save = async move {
            if let Err(error) = log.record(Vec::new(), vec![change]).await {
                tracing::warn!(%error, "how a plugin stands will not be known after a restart");
            }
        };
        save.boxed()
    };
    Kept { store, standings: memory.plugins, save: Arc::new(save) }
}

/// Turns what happens to plugins into events, for as long as the bus takes any.
async fn announce(plugins: Registry, bus: Bus) {
    let mut changes = plugins.changes();
    drop(plugins);
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            // Told too fast: those that were missed are in the plugins' status.
            Err(RecvError::Lagged(missed)) => {
                bus.metrics().internal_dropped.add(missed);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let name = change.name.as_str();
        let (event_type, data) = match change.kind {
            ChangeKind::Activated { version, sha256, generation, asks_beyond } => {
                let mut data = json!({"plugin": name, "version": version, "sha256": sha256, "generation": generation});
                if let Some(beyond) = asks_beyond {
                    data["asks_beyond"] = json!(beyond);
                }
                ("plugin.activated", data)
            }
            ChangeKind::Failed(error) => {
                ("plugin.failed", json!({"plugin": name, "code": error.code(), "message": error.to_string()}))
            }
            ChangeKind::RolledBack { generation, automatic } => {
                ("plugin.rolled_back", json!({"plugin": name, "generation": generation, "automatic": automatic}))
            }
            ChangeKind::Quarantined { for_ms } => ("plugin.quarantined", json!({"plugin": name, "for_ms": for_ms})),
            ChangeKind::Disabled => ("plugin.disabled", json!({"plugin": name})),
            ChangeKind::Removed => ("plugin.removed", json!({"plugin": name})),
            ChangeKind::Faulted(fault) => {
                let Faulted { code, message, sha256, seq, event_id, event_type, suppressed } = *fault;
                let data = json!({"plugin": name, "code": code.as_str(), "message": message, "sha256": sha256, "seq": seq,
                                  "event_id": event_id, "type": event_type, "suppressed": suppressed});
                (FAULT_EVENT, data)
            }
        };
        if let Ok(event) = NewEvent::new(event_type).data(data) {
            bus.publish_internal(event.source("busway"));
        }
    }
}

/// The filters at the hub's door, asked one after the other.
fn admission(config: &Config, questions: &Questions) -> anyhow::Result<Option<Admission>> {
    let mut doors: Vec<(String, Question)> = Vec::new();
    for door in &config.admission {
        let wanted = Wanted { plugin: Some(door.filter.clone()), params: door.params.clone(), ..Wanted::default() };
        doors.push((door.filter.clone(), questions.resolve_later(wanted)?));
    }
    if doors.is_empty() {
        return Ok(None);
    }
    let doors = Arc::new(doors);
    Ok(Some(Arc::new(move |event| {
        let doors = doors.clone();
        Box::pin(async move {
            for (filter, question) in &*doors {
                let selection = question.select(std::slice::from_ref(&event)).await;
                if !selection.events.is_empty() {
                    continue;
                }
                let reason = match selection.failures.first() {
                    None => "it does not match".to_owned(),
                    Some(failure) if failure.code == STARVED => return Err(Refusal::Unanswered(filter.clone())),
                    Some(FilterFailure { code, detail, .. }) => format!("no verdict counts as no ({code}: {detail})"),
                };
                return Err(Refusal::Rejected(Rejection { filter: filter.clone(), reason }));
            }
            Ok(())
        })
    })))
}
