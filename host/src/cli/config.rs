//! `busway config`: checks or shows a configuration without starting the hub.

use super::pending;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Report every mistake of a configuration file.
    Check(ConfigArgs),
    /// Print the configuration that a hub would run with, defaults included.
    Show(ConfigArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// Configuration file (TOML); without it, the defaults.
    pub(super) file: Option<PathBuf>,
}

pub(super) fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(ConfigArgs { file: _ }) => pending::server_side("config check"),
        ConfigCommand::Show(ConfigArgs { file: _ }) => pending::server_side("config show"),
    }
}
