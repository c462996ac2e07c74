//! Stands in for the server side that `serve`, `config`, `plugin check` and `plugin call` run, until it is merged.

use anyhow::{Result, bail};
use std::process::ExitCode;

/// To be replaced by the hub's own function.
pub(super) fn server_side(command: &str) -> Result<ExitCode> {
    bail!("`busway {command}` is not part of this build")
}
