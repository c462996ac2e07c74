//! From `try_publish` to a native handler in the same process, beside a bare tokio channel that carries the same events to a
//! closure. An event counts once its handler has run; publishers give way every 64 events and whenever the queue is full.

#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]

#[path = "shared/sample.rs"]
mod sample;

use busway::{
    bus::{Bus, BusConfig, PublishError},
    event::{EventFilter, NewEvent},
    log::{AppendError, Log, LogConfig},
};
use criterion::{Criterion, Throughput};
use sample::median;
use serde_json::value::RawValue;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one turn of the table.
const EVENTS: u64 = 300_000;
/// Turns of each side in the table.
const TURNS: usize = 9;
/// As many as the queue of the log holds.
const QUEUE: usize = 8_192;

/// How many came by the time that the last one did.
#[derive(Default)]
struct Arrivals {
    came: AtomicU64,
    all: Notify,
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("publish to handler");
    group.throughput(Throughput::Elements(1));
    for publishers in [1, 2, 4] {
        group.bench_function(format!("bus, {publishers} publishers"), |bencher| {
            bencher.iter_custom(|events| runtime.block_on(through_bus(publishers, events.max(1_000))).0);
        });
        group.bench_function(format!("channel, {publishers} publishers"), |bencher| {
            bencher.iter_custom(|events| runtime.block_on(through_channel(publishers, events.max(1_000))));
        });
    }
    group.finish();
    criterion.final_summary();
    if std::env::args().skip(1).any(|arg| !arg.starts_with('-')) {
        return;
    }
    println!(
        "\n| publishers | tokio channel | bus | bus / channel | missed by the handler | target |\n|---|---|---|---|---|---|"
    );
    for publishers in [1, 2, 4] {
        in_turns(&runtime, publishers);
    }
}

fn in_turns(runtime: &Runtime, publishers: u64) {
    let (mut channel, mut bus, mut missed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        channel.push(EVENTS as f64 / runtime.block_on(through_channel(publishers, EVENTS)).as_secs_f64() / 1e6);
        let (time, lost) = runtime.block_on(through_bus(publishers, EVENTS));
        bus.push((EVENTS - lost) as f64 / time.as_secs_f64() / 1e6);
        missed += lost;
    }
    let (channel, bus) = (median(&mut channel), median(&mut bus));
    let ratio = bus / channel;
    println!("| {publishers} | {channel:.2} M/s | {bus:.2} M/s | {ratio:.2} | {missed} | ≥ 1 M/s |");
}

fn event(data: &RawValue) -> NewEvent {
    sample::event("task.created", data)
}

/// The time until every event has been handled or was missed, and how many were missed.
async fn through_bus(publishers: u64, events: u64) -> (Duration, u64) {
    let bus = Bus::start(&BusConfig::default(), Log::in_memory(&LogConfig::default(), Arc::default()), None);
    let arrivals = Arc::new(Arrivals::default());
    let (counted, mut came) = (arrivals.clone(), 0);
    // Whatever it misses, it never misses the last one.
    let _subscription = bus.subscribe_sync(EventFilter::all(), move |event| {
        came += 1;
        if event.seq == events {
            counted.came.store(came, Relaxed);
            counted.all.notify_one();
        }
    });
    let began = Instant::now();
    for publisher in 0..publishers {
        let bus = bus.clone();
        let mine = share(publisher, publishers, events);
        let data = sample::data();
        tokio::spawn(async move {
            for index in 0..mine {
                give_way(index).await;
                while let Err(error) = bus.try_publish(event(&data)) {
                    assert_eq!(error, PublishError::Append(AppendError::Full));
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    arrivals.all.notified().await;
    let time = began.elapsed();
    bus.stop(Duration::from_secs(10)).await;
    (time, events - arrivals.came.load(Relaxed))
}

/// The same events through a channel to a closure: not checked, not numbered, kept by nobody.
async fn through_channel(publishers: u64, events: u64) -> Duration {
    let (sender, mut receiver) = mpsc::channel::<Arc<NewEvent>>(QUEUE);
    let arrivals = Arc::new(Arrivals::default());
    let (counted, mut came) = (arrivals.clone(), 0);
    let mut handle = move |_: &Arc<NewEvent>| {
        came += 1;
        if came == events {
            counted.all.notify_one();
        }
    };
    let began = Instant::now();
    tokio::spawn(async move {
        let mut some = Vec::with_capacity(256);
        while receiver.recv_many(&mut some, 256).await > 0 {
            some.drain(..).for_each(|event| handle(&event));
        }
    });
    for publisher in 0..publishers {
        let sender = sender.clone();
        let mine = share(publisher, publishers, events);
        let data = sample::data();
        tokio::spawn(async move {
            for index in 0..mine {
                give_way(index).await;
                let mut event = Arc::new(event(&data));
                while let Err(mpsc::error::TrySendError::Full(again)) = sender.try_send(event) {
                    event = again;
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    arrivals.all.notified().await;
    began.elapsed()
}

/// Lets the other tasks have the thread now and then, as every task does that waits for something itself.
async fn give_way(index: u64) {
    if index % 64 == 63 {
        tokio::task::yield_now().await;
    }
}

/// How many of the events this publisher sends.
fn share(publisher: u64, publishers: u64, events: u64) -> u64 {
    events / publishers + u64::from(publisher < events % publishers)
}
