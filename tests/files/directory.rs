//! What may lie in the directory, and what may happen to it.

use super::Beside;
use crate::{
    guests::{guest, probe},
    hub::{TestHub, until, within},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    sync::mpsc::{TryRecvError, channel},
};

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_the_directory_is_said_to_be_and_holds_nobody_up() {
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    let dir = hub.plugins();
    symlink("loop.wasm", dir.join("pool.wasm")).unwrap();
    symlink("pool.wasm", dir.join("loop.wasm")).unwrap();
    symlink("nowhere", dir.join("dangling.wasm")).unwrap();
    symlink("probe.wasm/below", dir.join("below.wasm")).unwrap();
    symlink("/dev/zero", dir.join("zero.wasm")).unwrap();
    symlink("/proc/self/mem", dir.join("memory.wasm")).unwrap();
    symlink("..", dir.join("above.wasm")).unwrap();
    let _socket = UnixListener::bind(dir.join("socket.wasm")).unwrap();
    // Only root may make a device. What its mode forbids: see `permission`.
    let device = Command::new("mknod").arg(dir.join("device.wasm")).args(["c", "1", "5"]).output().unwrap();
    beside.publish(&hub).await;
    let mut failing = vec!["zero", "memory", "above", "socket"];
    failing.extend(device.status.success().then_some("device"));
    for name in failing {
        let error = hub.refused(name).await;
        assert_eq!(error["code"], "load.io", "{name}: {error}");
    }
    let links = ["loop.wasm", "pool.wasm", "dangling.wasm", "below.wasm"];
    let strangers = hub.strangers(|refused| links.iter().all(|link| refused[link].is_string())).await;
    for (link, text) in
        links.into_iter().zip(["cannot be looked at", "cannot be looked at", "a link to nothing", "cannot"])
    {
        assert!(strangers[link].as_str().unwrap().contains(text), "{link}: {strangers}");
    }
    beside.publish(&hub).await;
    beside.lost_nothing(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused_each_with_its_reason() {
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    let long = "a".repeat(250) + ".wasm";
    let names: [&[u8]; 13] = [
        b"..wasm",
        b"x..wasm",
        b"a b.wasm",
        b"a\nb.wasm",
        b"a\x1b[31m.wasm",
        long.as_bytes(),
        b"UPPER.wasm",
        b"Probe.wasm",
        b"probe.WASM",
        b"-x.wasm",
        b".wasm",
        b"\xff.wasm",
        b"\xfe.wasm",
    ];
    for name in names {
        fs::write(hub.plugins().join(OsStr::from_bytes(name)), probe(2)).unwrap();
        beside.publish(&hub).await;
    }
    let strangers =
        hub.strangers(|refused| refused.as_object().is_some_and(|refused| refused.len() == names.len())).await;
    for name in names {
        let shown = str::from_utf8(name).map_or_else(|_| format!("{:?}", OsStr::from_bytes(name)), str::to_owned);
        let reason = strangers[&shown].as_str().unwrap_or_else(|| panic!("{shown}: {strangers}"));
        assert!(reason.starts_with("expected a ") && reason.contains(", found "), "{reason}");
    }
    beside.lost_nothing(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_no_sidecar_is_refused_and_nothing_is_loaded_without_it() {
    let hub = TestHub::start().await;
    let beside = Beside::install(&hub).await;
    let dir = hub.plugins();
    fifo(&dir.join("pipe.toml"));
    fs::create_dir(dir.join("folder.toml")).unwrap();
    File::create(dir.join("large.toml")).unwrap().set_len((256 << 10) + 1).unwrap();
    fs::write(dir.join("binary.toml"), b"a = \"\xff\"").unwrap();
    symlink("nowhere", dir.join("dangling.toml")).unwrap();
    symlink("loop.toml", dir.join("loop.toml")).unwrap();
    let cases = [
        ("pipe", "load.io", "something else"),
        ("folder", "load.io", "something else"),
        ("large", "load.size", "at most 262144 bytes, found 262145 bytes"),
        ("binary", "load.io", "not UTF-8"),
        ("dangling", "load.io", "a link to nothing"),
    ];
    for (name, ..) in cases {
        hub.put(&format!("{name}.wasm"), guest("urgent-only"));
    }
    hub.put("loop.wasm", guest("urgent-only"));
    for (name, code, text) in cases {
        let error = hub.refused(name).await;
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
    let strangers = hub.strangers(|refused| refused["loop.wasm"].is_string()).await;
    assert!(strangers["loop.wasm"].as_str().unwrap().starts_with("its sidecar cannot be looked at"), "{strangers}");
    beside.lost_nothing(&hub).await;
}

/// Each piece is there for so long that the hub has looked at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_slowly_is_loaded_once_when_it_is_whole() {
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    let whole = probe(2);
    let path = hub.plugins().join("slow.wasm");
    let mut file = File::create(&path).unwrap();
    let mut last = hub.refused("slow").await;
    for piece in whole.chunks(whole.len() / 5).take(5) {
        beside.publish(&hub).await;
        file.write_all(piece).unwrap();
        if file.metadata().unwrap().len() < whole.len() as u64 {
            last =
                hub.plugin_until("slow", |status| status["last_error"]["at"] != last["at"]).await["last_error"].clone();
            assert_eq!(last["code"], "load.compile", "{last}");
        }
    }
    file.write_all(&whole[whole.len() / 5 * 5..]).unwrap();
    drop(file);
    hub.plugin_until("slow", |status| status["state"] == "active").await;
    beside.publish(&hub).await;
    let of_slow = |event: &&Value| event["type"] == "plugin.activated" && event["data"]["plugin"] == "slow";
    let events = hub.events_until(|events| events.iter().any(|event| of_slow(&event))).await;
    assert_eq!(events.iter().filter(of_slow).count(), 1);
    // It is a second probe: both count each event since it came.
    hub.remove("slow.wasm");
    let (_, status) = hub.get("/v1/plugins/probe").await;
    assert_eq!((&status["state"], &status["generation"]), (&json!("active"), &json!(1)));
    until(|| hub.bus().metrics().commits.get() >= beside.published as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_rewritten_all_the_time_ends_with_what_was_last_and_each_event_is_handled_once() {
    const ROUNDS: u32 = 100;
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let mut published = BTreeSet::new();
    for round in 0..ROUNDS {
        match round % 4 {
            0 => hub.put("probe.wasm", probe(2)),
            1 => hub.put("probe.wasm", "broken"),
            2 => hub.put("probe.wasm", probe(3)),
            // Not renamed into place: others see it half written.
            _ => fs::write(hub.plugins().join("probe.wasm"), &probe(2)[..100_000]).unwrap(),
        }
        for _ in 0..10 {
            published.insert(hub.publish("probe.echo", json!(round)).await);
        }
    }
    let error = hub.plugin_until("probe", |status| status["last_error"]["code"] == "load.compile").await;
    assert_eq!(error["state"], "active", "the last content is bad, and what was good last goes on");
    hub.put("probe.wasm", probe(4));
    within(async {
        loop {
            let seq = hub.publish("probe.echo", json!("last")).await;
            published.insert(seq);
            let answered = |event: &Value| event["type"] == "probed.echo" && event["data"]["of"] == seq;
            let events = hub.events_until(|events| events.iter().any(answered)).await;
            if events.iter().find(|event| answered(event)).unwrap()["data"]["version"] == 4 {
                return;
            }
        }
    })
    .await;
    let handled = hub.events_of("probed.echo", published.len()).await;
    assert_eq!(handled.len(), published.len());
    let of: BTreeSet<u64> = handled.iter().map(|event| event["data"]["of"].as_u64().unwrap()).collect();
    assert_eq!(of, published, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_thousands_of_files_came_and_went_the_picture_is_right() {
    let hub = TestHub::start().await;
    let mut beside = Beside::install(&hub).await;
    let dir = hub.plugins();
    for round in 0..5_000 {
        let (plugin, other) = (dir.join(format!("p{round}.wasm")), dir.join(format!("No {round}.wasm")));
        fs::write(&plugin, "x").unwrap();
        fs::write(&other, "x").unwrap();
        fs::remove_file(plugin).unwrap();
        fs::remove_file(other).unwrap();
        if round % 100 == 0 {
            beside.publish(&hub).await;
        }
    }
    hub.put("late.wasm", "x");
    assert_eq!(hub.refused("late").await["code"], "load.not-wasm");
    let list = within(async {
        loop {
            let (_, list) = hub.get("/v1/plugins").await;
            if list["plugins"].as_array().unwrap().len() == 2 && list["refused"] == json!({}) {
                return list;
            }
        }
    })
    .await;
    let names: Vec<&Value> = list["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["name"]).collect();
    assert_eq!(names, ["late", "probe"]);
    beside.lost_nothing(&hub).await;
}

/// Somebody who never stops writing to a file keeps nobody else from being loaded, nor the hub from being ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_to_for_ever_does_not_keep_the_hub_from_being_ready() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    let restless = dir.path().join("plugins/restless.wasm");
    let (stop, stopped) = channel::<()>();
    let writer = std::thread::spawn(move || {
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            fs::write(&restless, "x").unwrap();
            std::thread::yield_now();
        }
    });
    let hub = TestHub::in_dir(dir, |_| ()).await;
    let mut beside = Beside::install(&hub).await;
    beside.publish(&hub).await;
    beside.lost_nothing(&hub).await;
    assert_eq!(hub.get("/readyz").await.0, 200);
    drop(stop);
    writer.join().unwrap();
    assert_eq!(hub.refused("restless").await["code"], "load.not-wasm");
}
