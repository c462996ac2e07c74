//! WASI 0.2 with nothing behind it: clocks and random numbers as far as they are granted, and stdio; there are no files, no
//! arguments, no environment and no network. All of it is linked, since runtimes of languages import all of it. HTTP is not.

use super::stdio::Stdio;
use super::{Context, Guest, HostFault};
use crate::plugin::fault::FaultCode;
use crate::plugin::grants::Capability;
use crate::plugin::stats::Stats;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynPollable,
    bindings::{
        io::poll,
        random::{insecure_seed, random},
    },
};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

type Waited = Resource<DynPollable>;

/// What looking at one of them costs, in bytes that the host handles in the same time.
const WAITED: usize = 256;
/// The same for a random byte.
const RANDOM_BYTE: usize = 16;
/// Both the same: a guest that wants many bytes cheaply can make them itself.
const RANDOM: [(&str, &str); 2] =
    [("wasi:random/random@0.2.12", "get-random-bytes"), ("wasi:random/insecure@0.2.12", "get-insecure-random-bytes")];
const RANDOM_NUMBER: [(&str, &str); 2] =
    [("wasi:random/random@0.2.12", "get-random-u64"), ("wasi:random/insecure@0.2.12", "get-insecure-random-u64")];

/// Where the clocks stand of a plugin that is not granted them: 2000-01-01T00:00:00Z by the one on the wall, and a second after
/// some beginning by the other. None of them 0: runtimes take that for a clock that does not work, and end.
const WALL: Duration = Duration::from_secs(946_684_800);
const MONOTONIC: u64 = 1_000_000_000;
/// Of the numbers that a plugin has instead of random ones. Not all the same: who looks for one that fits must find it.
const SEED: u64 = 0x6275_7377_6179;
/// After so many of them they begin anew. No power of two, so that numbers of several bytes do not repeat as soon.
const CYCLE: usize = 4_093;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // Most host calls take less time than the guest's way to them, and that burns fuel. These can be made to take as long as one
    // likes for next to no fuel, so they are counted like everything else that crosses the boundary.
    linker.allow_shadowing(true);
    linker.instance("wasi:io/poll@0.2.12")?.func_wrap_async("poll", |mut store, (list,): (Vec<Waited>,)| {
        Box::new(async move {
            let guest: &mut Guest = store.data_mut();
            let most = guest.context.limits.handles;
            if list.len() > most {
                let message = format!("waited for {} things at once, at most {most} are allowed", list.len());
                return Err(HostFault { code: FaultCode::Lift, message }.into());
            }
            // A call like others, with nothing in it.
            guest.spend(0)?;
            guest.work(list.len() * WAITED);
            poll::Host::poll(&mut guest.resources, list).await.map(|ready| (ready,))
        })
    })?;
    for (interface, function) in RANDOM {
        linker.instance(interface)?.func_wrap(function, |mut store, (bytes,): (u64,)| {
            let guest: &mut Guest = store.data_mut();
            let most = guest.context.limits.random_bytes;
            if bytes > most as u64 {
                let message = format!("wanted {bytes} random bytes at once, at most {most} are allowed");
                return Err(HostFault { code: FaultCode::Lift, message }.into());
            }
            guest.spend(bytes as usize)?;
            guest.work(bytes as usize * RANDOM_BYTE);
            guest.may(Capability::Random);
            random::Host::get_random_bytes(&mut guest.ctx().ctx.random(), bytes).map(|bytes| (bytes,))
        })?;
    }
    // Shadowed to be counted where they are not granted.
    for (interface, function) in RANDOM_NUMBER {
        linker.instance(interface)?.func_wrap(function, |mut store, (): ()| {
            let guest: &mut Guest = store.data_mut();
            guest.may(Capability::Random);
            random::Host::get_random_u64(&mut guest.ctx().ctx.random()).map(|number| (number,))
        })?;
    }
    linker.instance("wasi:random/insecure-seed@0.2.12")?.func_wrap("insecure-seed", |mut store, (): ()| {
        let guest: &mut Guest = store.data_mut();
        guest.may(Capability::Random);
        insecure_seed::Host::insecure_seed(&mut guest.ctx().ctx.random()).map(|seed| (seed,))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

pub(super) fn resources(handles: usize) -> ResourceTable {
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(handles);
    resources
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| context(&self.context));
        WasiCtxView { ctx: &mut wasi.0, table: &mut self.resources }
    }
}

fn context(context: &Context) -> Box<(WasiCtx, Stdio)> {
    let Context { limits, grants, stats, .. } = context;
    let stdio = Stdio::new(limits.boundary_bytes);
    let mut wasi = WasiCtx::builder();
    if grants.allows(Capability::Clock).is_err() {
        wasi.wall_clock(Stopped(Arc::clone(stats))).monotonic_clock(Stopped(Arc::clone(stats)));
    }
    if grants.allows(Capability::Random).is_err() {
        let mut numbers = fastrand::Rng::with_seed(SEED);
        let bytes = std::iter::repeat_with(|| numbers.u8(..)).take(CYCLE).collect();
        wasi.secure_random(Deterministic::new(bytes)).insecure_random_seed(SEED.into());
    }
    let wasi = wasi
        .stdout(stdio.stdout.clone())
        .stderr(stdio.stderr.clone())
        .max_random_size(limits.random_bytes as u64)
        // These are the defaults; they stand here because the sandbox rests on them.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build();
    Box::new((wasi, stdio))
}

/// The clocks of a plugin that is not granted them. What it waits for still takes its time, though it cannot tell.
struct Stopped(Arc<Stats>);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.refused(FaultCode::Denied);
        WALL
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.refused(FaultCode::Denied);
        MONOTONIC
    }
}
