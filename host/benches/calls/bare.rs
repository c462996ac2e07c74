//! The same guest on wasmtime alone: the engine's settings, the generated bindings, fuel and the interval at which it yields.
//! What is missing is what the hub adds: limits, deadline, capabilities, transaction, causes, statistics. What the guest may call does the
//! least that the contract allows: log lines are for nobody, kv is a map, and what is published is checked, given an id and put aside.

use busway::event::{Event, NewEvent};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod handler {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "handler-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
    });
}

mod filter {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "filter-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "busway:plugin/types": super::handler::busway::plugin::types,
            "busway:plugin/logging": super::handler::busway::plugin::logging,
        },
        exports: { default: async },
    });
}

use handler::busway::plugin::{config, kv, logging, publisher, types};
use handler::exports::busway::plugin::handler::Delivery;

/// As `plugin/limits.rs` has them for an event of this size.
const FUEL: u64 = 20_000_000;
const YIELD_FUEL: u64 = 10_000;

/// The data of an instance's store.
#[derive(Default)]
struct Data {
    resources: ResourceTable,
    wasi: Option<WasiCtx>,
    kv: BTreeMap<String, Vec<u8>>,
    outbox: Vec<Event>,
}

impl types::Host for Data {}

impl logging::Host for Data {
    fn log(&mut self, _: logging::Level, _: String) {}
}

impl config::Host for Data {
    fn get(&mut self, _: String) -> Option<String> {
        None
    }
}

impl kv::Host for Data {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, String> {
        Ok(self.kv.get(&key).cloned())
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), String> {
        self.kv.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: String) -> Result<(), String> {
        self.kv.remove(&key);
        Ok(())
    }

    fn keys(&mut self, prefix: String, _: Option<String>) -> Result<Vec<String>, String> {
        Ok(self.kv.keys().filter(|key| key.starts_with(&prefix)).cloned().collect())
    }

    fn increment(&mut self, key: String, delta: i32) -> Result<i64, String> {
        let value = self.kv.entry(key).or_insert_with(|| b"0".to_vec());
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.ok_or("not a number")? + i64::from(delta);
        *value = sum.to_string().into_bytes();
        Ok(sum)
    }
}

impl publisher::Host for Data {
    fn publish(&mut self, event: types::NewEvent) -> Result<String, publisher::PublishError> {
        let event = admit(event)
            .map_err(|message| publisher::PublishError { code: publisher::PublishCode::Invalid, message })?;
        let id = event.metadata.event_id.to_string();
        self.outbox.push(event);
        Ok(id)
    }
}

/// The checks of the contract; they are the same on either side.
fn admit(event: types::NewEvent) -> Result<Event, String> {
    let json = |text| RawValue::from_string(text).map_err(|error| error.to_string());
    let mut new = NewEvent::with_data(event.type_, json(event.data)?).tags(event.tags);
    for (name, value) in event.extensions {
        new = new.extension(name, json(value)?);
    }
    if let Some(id) = event.correlation_id {
        new = new.correlation_id(id);
    }
    new.admit().map_err(|error| error.to_string())
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| WasiCtx::builder().build());
        WasiCtxView { ctx, table: &mut self.resources }
    }
}

enum Linked {
    Handler(handler::HandlerPluginPre<Data>),
    Filter(filter::FilterPluginPre<Data>),
}

enum Exports {
    Handler(handler::HandlerPlugin),
    Filter(filter::FilterPlugin),
}

/// A compiled and linked component.
pub(crate) struct Bare {
    engine: Engine,
    linked: Linked,
}

/// An instance of it.
pub(crate) struct Live {
    store: Store<Data>,
    exports: Exports,
}

impl Bare {
    pub(crate) fn new(bytes: &[u8], is_handler: bool) -> Self {
        let engine = Engine::new(&settings()).expect("the machine has address space");
        let component = Component::from_binary(&engine, bytes).expect("it compiles");
        let mut linker = Linker::<Data>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("wasi is linked");
        handler::HandlerPlugin::add_to_linker::<Data, HasSelf<Data>>(&mut linker, |data| data)
            .expect("the rest is linked");
        let pre = linker.instantiate_pre(&component).expect("it is linked");
        let linked = if is_handler {
            Linked::Handler(handler::HandlerPluginPre::new(pre).expect("a handler"))
        } else {
            Linked::Filter(filter::FilterPluginPre::new(pre).expect("a filter"))
        };
        Self { engine, linked }
    }

    pub(crate) async fn instance(&self) -> Live {
        let mut store = Store::new(&self.engine, Data::default());
        refuel(&mut store);
        let exports = match &self.linked {
            Linked::Handler(pre) => Exports::Handler(pre.instantiate_async(&mut store).await.expect("it starts")),
            Linked::Filter(pre) => Exports::Filter(pre.instantiate_async(&mut store).await.expect("it starts")),
        };
        Live { store, exports }
    }
}

impl Live {
    pub(crate) async fn call(&mut self, event: &Event) {
        refuel(&mut self.store);
        let tags: Vec<&str> = event.metadata.tags.iter().map(String::as_str).collect();
        let event = lower(event, &tags);
        match &self.exports {
            Exports::Handler(plugin) => {
                let called =
                    plugin.busway_plugin_handler().call_handle(&mut self.store, event, Delivery { attempt: 1 });
                called.await.expect("no trap").expect("no failure");
                self.store.data_mut().outbox.clear();
            }
            Exports::Filter(plugin) => {
                let called = plugin.busway_plugin_filter().call_matches(&mut self.store, event, None);
                assert_eq!(called.await.expect("no trap"), Ok(true));
            }
        }
    }
}

fn refuel(store: &mut Store<Data>) {
    store.set_fuel(FUEL).expect("fuel is on");
    store.fuel_async_yield_interval(Some(YIELD_FUEL)).expect("fuel is on");
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);
}

fn lower<'a>(event: &'a Event, tags: &'a [&'a str]) -> types::Event<'a> {
    let meta = &event.metadata;
    types::Event {
        seq: event.seq,
        type_: &event.event_type,
        data: event.data.get(),
        metadata: types::Metadata {
            event_id: &meta.event_id,
            timestamp: meta.timestamp.timestamp_micros().cast_unsigned(),
            correlation_id: meta.correlation_id.as_deref(),
            causation_id: meta.causation_id.as_deref(),
            source: meta.source.as_deref(),
            tags,
            hops: meta.hops,
            extensions: &[],
        },
    }
}

/// As in `plugin/engine.rs`.
fn settings() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1_000)
        .total_stacks(1_000)
        .total_core_instances(16_000)
        .total_memories(1_000)
        .total_tables(4_000)
        .max_memory_size(64 << 20)
        .table_elements(100_000)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .max_unused_warm_slots(1_000)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut settings = Config::new();
    settings
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    settings
}
