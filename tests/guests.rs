//! The guests, and how a test puts them into a hub's plugin directory.

use crate::hub::{TestHub, within};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// The bytes of a guest that the build made.
pub fn guest(name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("GUESTS")).join(format!("{}.wasm", name.replace('-', "_")));
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The probe, whose events say this version.
pub fn probe(version: u32) -> Vec<u8> {
    const MARK: &[u8] = b"probe-version-00000000";
    let mut bytes = guest("probe");
    let at = bytes.windows(MARK.len()).position(|window| window == MARK).expect("the mark is in the probe");
    bytes[at + MARK.len() - 8..at + MARK.len()].copy_from_slice(format!("{version:08}").as_bytes());
    bytes
}

/// A version that describes itself well and traps at its first event.
pub const TRAPS: u32 = 88_888_888;
/// A version that traps while it describes itself.
pub const CANNOT_DESCRIBE: u32 = 99_999_999;

impl TestHub {
    /// Puts a file into the plugin directory as a careful operator does: written aside, then renamed.
    pub fn put(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let dir = self.dir.path().join("plugins");
        let aside = dir.join(format!(".{file}.new"));
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, dir.join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.dir.path().join("plugins").join(file)).unwrap();
    }

    /// Puts a plugin there and waits until it is active.
    pub async fn install(&self, name: &str, bytes: impl AsRef<[u8]>, manifest: &str) -> Value {
        if !manifest.is_empty() {
            self.put(&format!("{name}.toml"), manifest);
        }
        self.put(&format!("{name}.wasm"), bytes);
        self.plugin_until(name, |status| status["state"] == "active").await
    }

    /// Waits until `condition` holds for a plugin's status.
    pub async fn plugin_until(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                let (_, status) = self.get(&format!("/v1/plugins/{name}")).await;
                if condition(&status) {
                    return status;
                }
            }
        })
        .await
    }
}
