//! Files that the hub's user may not read. Root may read everything, so where the tests are root's, the hub is not.

use crate::{cli::Serving, guests::probe, hub::within};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Stdio,
};
use tokio::process::Command;

/// Nobody in particular.
const NOBODY: u32 = 65_534;

/// The program in a directory of the user's own, for one who need not be able to enter that of the build.
fn serve(dir: &Path) -> Command {
    let (built, program) = (env!("CARGO_BIN_EXE_busway-under-test"), dir.join("busway"));
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"]).arg(dir.join("plugins"));
    command.kill_on_drop(true).env("RUST_LOG", "off").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

async fn until(hub: &Serving, name: &str, state: &str) -> Value {
    let url = format!("http://{}/v1/plugins/{name}", hub.address);
    within(async {
        loop {
            let status: Value = crate::hub::http_client().get(&url).send().await.unwrap().json().await.unwrap();
            if status["state"] == state {
                return status;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read_is_said_to_be_and_is_loaded_once_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    let allow = |file: &str, mode| fs::set_permissions(plugins.join(file), Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&plugins).unwrap();
    for name in ["good", "closed", "bare"] {
        fs::write(plugins.join(format!("{name}.wasm")), probe(1)).unwrap();
    }
    fs::write(plugins.join("bare.toml"), "enabled = true\n").unwrap();
    allow("closed.wasm", 0o000);
    allow("bare.toml", 0o000);
    let hub = Serving::of(&mut serve(dir.path())).await;
    until(&hub, "good", "active").await;
    for name in ["closed", "bare"] {
        let error = until(&hub, name, "failed").await["last_error"].clone();
        assert_eq!(error["code"], "load.io", "{name}: {error}");
        assert!(error["message"].as_str().unwrap().contains("Permission denied"), "{name}: {error}");
    }
    allow("closed.wasm", 0o644);
    allow("bare.toml", 0o644);
    for name in ["closed", "bare"] {
        until(&hub, name, "active").await;
    }
}
