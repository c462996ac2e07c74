//! WASI 0.2 with nothing behind it: clocks, random numbers and stdio work; there are no files, no arguments, no
//! environment and no network. All of it is linked, since runtimes of languages import all of it. HTTP is not.

use super::Guest;
use super::stdio::Stdio;
use crate::plugin::limits::{MAX_HANDLES, MAX_RANDOM_BYTES};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

pub(super) fn resources() -> ResourceTable {
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(MAX_HANDLES);
    resources
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(context);
        WasiCtxView { ctx: &mut wasi.0, table: &mut self.resources }
    }
}

fn context() -> Box<(WasiCtx, Stdio)> {
    let stdio = Stdio::default();
    let wasi = WasiCtx::builder()
        .stdout(stdio.stdout.clone())
        .stderr(stdio.stderr.clone())
        .max_random_size(MAX_RANDOM_BYTES)
        // These are the defaults; they stand here because the sandbox rests on them.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build();
    Box::new((wasi, stdio))
}
