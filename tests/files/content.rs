//! What may be in a file.

use super::{Beside, status_of};
use crate::{
    cli::{Serving, busway},
    guests::{guest, probe},
    hostile::guest::{Guest, OK},
    hub::{TestHub, within},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::Write,
    iter::repeat_n,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// What this hub's own compiler makes of a component.
async fn precompiled(component: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncWriteExt;
    let mut child = busway().arg("compile-component").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(component).await.unwrap();
    drop(stdin);
    let output = within(child.wait_with_output()).await.unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_file_is_it_ends_in_a_typed_error_and_the_plugin_beside_it_loses_nothing() {
    const HANDLER: &str = "busway:plugin/handler@0.1.0";
    const FILTER: &str = "busway:plugin/filter@0.1.0";
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    let exports = |names: &[&str]| {
        let names: String = names.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
        wat(&format!("(component (instance $i) {names})"))
    };
    let imports = |name: &str| {
        let asks = "(instance (export \"a\" (func)))";
        wat(&format!("(component (import \"{name}\" {asks}) (instance $i) (export \"{HANDLER}\" (instance $i)))"))
    };
    let whole = probe(1);
    let mut files = vec![
        ("empty".to_owned(), Vec::new(), "load.not-wasm", "an empty file"),
        ("elf".into(), fs::read("/proc/self/exe").unwrap()[..4096].to_vec(), "load.precompiled", "ELF"),
        ("png".into(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "load.not-wasm", "a PNG image"),
        ("html".into(), b"<!doctype html><h1>404</h1>".to_vec(), "load.not-wasm", "HTML"),
        ("text".into(), b"hello".to_vec(), "load.not-wasm", "found text"),
        ("wat".into(), b"(component)".to_vec(), "load.not-wasm", "wasm-tools parse"),
        ("module".into(), wat("(module)"), "load.core-module", "wasm32-wasip2"),
        ("precompiled".into(), precompiled(&whole).await, "load.precompiled", "only this hub's own compiler"),
        ("world".into(), exports(&["my:own/thing@1.0.0"]), "load.exports", "built for another world"),
        (
            "newer".into(),
            exports(&["busway:plugin/handler@0.2.0"]),
            "load.exports",
            "built for contract 0.2.0, this hub knows 0.1",
        ),
        ("missing".into(), exports(&[HANDLER]), "load.exports", "found nothing of that name"),
        ("both".into(), exports(&[HANDLER, FILTER]), "load.exports", "make it two plugins"),
        ("unknown".into(), imports("my:own/thing@1.0.0"), "load.imports", "found my:own/thing@1.0.0"),
        ("sockets".into(), imports("wasi:sockets/raw@0.2.0"), "load.imports", "wasi:sockets/raw"),
        ("files".into(), imports("wasi:filesystem/devices@0.2.0"), "load.imports", "wasi:filesystem/devices"),
        ("http".into(), imports("wasi:http/outgoing-handler@0.2.0"), "load.imports", "wasi:http"),
    ];
    for tenth in 1..10 {
        files.push((format!("cut-{tenth}"), whole[..whole.len() * tenth / 10].to_vec(), "load.compile", ""));
    }
    for (name, bytes, ..) in &files {
        hub.put(&format!("{name}.wasm"), bytes);
        beside.publish(&hub).await;
    }
    for (name, _, code, text) in &files {
        let error = hub.refused(name).await;
        assert_eq!(error["code"], *code, "{name}: {error}");
        assert!(error["message"].as_str().unwrap().contains(text), "{name}: {error}");
        let sample = format!("busway_plugin_load_failures_total{{plugin=\"{name}\",code=\"{code}\"}}");
        assert_ne!(hub.metric(&sample).await, 0, "{sample}");
    }
    beside.lost_nothing(&hub).await;
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], &leb(content.len())[..], content].concat()
}

/// A component that is one module with functions of these bodies.
fn component(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut code = leb(bodies.len());
    for body in bodies {
        code.extend(leb(body.len()));
        code.extend(body);
    }
    let functions = [leb(bodies.len()), vec![0; bodies.len()]].concat();
    let module =
        [b"\0asm\x01\0\0\0".to_vec(), section(1, b"\x01\x60\0\0"), section(3, &functions), section(10, &code)].concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

/// A function of a million bytes in which everything depends on everything.
fn giant() -> Vec<u8> {
    let locals = [1, 2, 0x7f].to_vec();
    let step = [0x20, 0, 0x20, 1, 0x6c, 0x22, 1, 0x41, 7, 0x6a, 0x21, 0];
    let steps = step.into_iter().cycle().take((MIB - 64) / step.len() * step.len());
    locals.into_iter().chain(steps).chain([0x0b]).collect()
}

fn bombs() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    const COMPILED_OR_NOT: &[&str] = &["load.exports", "load.compile"];
    let nested = |levels| {
        let open = repeat_n([0x02, 0x40], levels).flatten();
        [0].into_iter().chain(open).chain(repeat_n(0x0b, levels + 1)).collect::<Vec<u8>>()
    };
    let locals = |count: usize| [vec![1], leb(count), vec![0x7e, 0x0b]].concat();
    let targets = |count| [vec![0, 0x41, 0, 0x0e], leb(count), vec![0; count + 1], vec![0x0b]].concat();
    vec![
        ("million", component(&vec![vec![0, 0x0b]; 1_000_000]), &["load.size"]),
        ("too-long", component(&[vec![0; MIB + 1]]), &["load.size"]),
        ("giant", component(&[giant()]), COMPILED_OR_NOT),
        ("nested", component(&[nested(50_000)]), COMPILED_OR_NOT),
        ("locals", component(&vec![locals(50_000); 20]), COMPILED_OR_NOT),
        ("more-locals", component(&[locals(4_000_000_000)]), &["load.compile"]),
        ("targets", component(&[targets(1_000_000)]), COMPILED_OR_NOT),
        ("fewer-targets", component(&[targets(60_000)]), COMPILED_OR_NOT),
    ]
}

/// Holes, which the disk does not hold and nobody is to read.
fn large(path: &Path, head: &[u8], bytes: u64) {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside).unwrap();
    file.write_all(head).unwrap();
    file.set_len(bytes).unwrap();
    fs::rename(aside, path).unwrap();
}

async fn get(hub: &Serving, path: &str) -> Value {
    let response = within(crate::hub::http_client().get(format!("http://{}{path}", hub.address)).send()).await.unwrap();
    within(response.json()).await.unwrap()
}

/// In the real program, so that its memory is the hub's alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_costs_a_bounded_time_and_none_of_the_hubs_memory() {
    const EVENTS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("probe.wasm"), probe(1)).unwrap();
    let data = dir.path().join("data");
    let mut command = busway();
    command.args(["serve", "--listen", "127.0.0.1:0", "--plugins"]).arg(&plugins).arg("--data").arg(&data);
    let hub = Serving::of(command.stdout(Stdio::null())).await;
    let active = async |name: &str| get(&hub, &format!("/v1/plugins/{name}")).await["state"] == "active";
    within(async { while !active("probe").await {} }).await;
    let pid = hub.child.id().unwrap();
    let before = status_of(pid, "VmHWM");

    let began = Instant::now();
    let bombs = bombs();
    for (name, bytes, _) in &bombs {
        fs::write(plugins.join(format!("{name}.wasm")), bytes).unwrap();
    }
    large(&plugins.join("holes.wasm"), b"", 65 << 20);
    // A custom section of 100 MiB.
    large(&plugins.join("section.wasm"), b"\0asm\x0d\0\x01\0\0\x80\x80\x80\x32\0", (100 << 20) + 13);
    let client = crate::hub::http_client();
    for _ in 0..EVENTS {
        let request = client.post(format!("http://{}/v1/events", hub.address)).json(&json!({"type": "probe.count"}));
        assert_eq!(within(request.send()).await.unwrap().status(), 200);
    }
    let large: &[&str] = &["load.size"];
    let names = bombs.iter().map(|(name, _, codes)| (*name, *codes)).chain([("holes", large), ("section", large)]);
    for (name, codes) in names {
        let error = within(async {
            loop {
                let status = get(&hub, &format!("/v1/plugins/{name}")).await;
                if status["state"] == "failed" {
                    return status["last_error"].clone();
                }
            }
        })
        .await;
        let code = error["code"].as_str().unwrap();
        assert!(codes.contains(&code), "{name}: {error}");
        eprintln!("{name}: {code} after {:?}: {}", began.elapsed(), error["message"]);
    }
    let took = began.elapsed();
    let grown = status_of(pid, "VmHWM") - before;
    eprintln!("all bombs: {took:?}; the hub's peak grew from {before} by {grown} KiB");
    assert!(took < Duration::from_secs(120), "{took:?}");
    // The files themselves are up to 4 MiB, two at a time, and there are buffers.
    assert!(grown < 64 << 10, "{grown} KiB");
    let events = get(&hub, "/v1/events?from=1&limit=1000").await;
    let counts = events["events"].as_array().unwrap().iter().filter(|event| event["type"] == "probed.count");
    assert_eq!(counts.count() as u64, EVENTS);
}

/// A module that the compiler refuses, and nobody before it.
fn invalid() -> Vec<u8> {
    wat("(component (core module (func (result i32))))")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_compiler_said_of_a_file_is_remembered_and_an_operator_may_ask_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    hub.put("bad.wasm", invalid());
    assert_eq!(hub.refused("bad").await["code"], "load.compile");
    assert_eq!((hub.compilations("refused").await, hub.compilations("saved").await), (1, 0));
    hub.put("bad.wasm", invalid());
    hub.saved(1).await;
    hub.put("other.wasm", invalid());
    hub.saved(2).await;
    assert_eq!(hub.refused("other").await["code"], "load.compile");
    assert_eq!(hub.compilations("refused").await, 1);
    hub.post("/v1/plugins/bad/reload", &json!({})).await;
    assert_eq!(hub.compilations("refused").await, 2);
    let hub = TestHub::durable(hub.end().await, |config| config.plugins.cache = cache).await;
    assert_eq!(hub.refused("bad").await["code"], "load.compile");
    assert_eq!((hub.compilations("refused").await, hub.compilations("saved").await), (0, 2));
}

/// That is said of the hub and not of the file, so it is not remembered of the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_asks_for_more_memory_than_there_is_is_loaded_after_a_restart_with_more() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let with = async |dir, max_memory| {
        TestHub::durable(dir, |config| {
            config.plugins.cache = cache.clone();
            config.plugins.max_memory = max_memory;
        })
        .await
    };
    let hub = with(dir, 64 * MIB).await;
    hub.put("large.toml", "[limits]\nmemory = \"128MiB\"");
    hub.put("large.wasm", wat(&Guest { fields: "(memory 1600)", ..Guest::handler(OK) }.wat()));
    let error = hub.refused("large").await;
    assert_eq!(error["code"], "load.compile", "{error}");
    assert!(error["message"].as_str().unwrap().contains("what was compiled cannot be used"), "{error}");
    let hub = with(hub.end().await, 64 * MIB).await;
    assert_eq!(hub.refused("large").await["code"], "load.compile");
    assert_eq!(hub.compilations("compiled").await, 0, "what was compiled is kept");
    let hub = with(hub.end().await, 128 * MIB).await;
    hub.plugin_until("large", |status| status["state"] == "active").await;
    assert_eq!(hub.compilations("compiled").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_under_many_names_is_compiled_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let hub = TestHub::in_dir(dir, |config| config.plugins.cache = cache).await;
    let names: Vec<String> = (0..10).map(|index| format!("same-{index}")).collect();
    for name in &names {
        hub.put(&format!("{name}.wasm"), guest("urgent-only"));
    }
    for name in &names {
        hub.plugin_until(name, |status| status["state"] == "active").await;
    }
    assert_eq!((hub.compilations("compiled").await, hub.compilations("saved").await), (1, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_compiles_nothing_and_a_damaged_cache_file_is_compiled_anew_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let mut hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    hub.install("urgent-only", guest("urgent-only"), "").await;
    assert_eq!(hub.compilations("compiled").await, 1);
    let path = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let truncated = whole[..whole.len() / 2].to_vec();
    for (damage, starts) in [(None, 0), (Some(flipped), 1), (Some(truncated), 1), (Some(Vec::new()), 1), (None, 0)] {
        let dir = hub.end().await;
        if let Some(damage) = &damage {
            fs::write(&path, damage).unwrap();
        }
        hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
        hub.plugin_until("urgent-only", |status| status["state"] == "active").await;
        assert_eq!(hub.compilations("compiled").await, starts);
        assert_eq!(fs::read(&path).unwrap().len(), whole.len(), "it is whole again");
    }
}
