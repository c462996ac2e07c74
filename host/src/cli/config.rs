//! `busway config`: checks or shows a configuration without starting the hub.

use super::output::print;
use crate::config::Config;
use anyhow::{Context, anyhow, bail};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
        ConfigCommand::Check(ConfigArgs { file }) => {
            read(file.as_deref())?;
            print(format_args!("{}: no mistakes", file.as_deref().unwrap_or(Path::new("the defaults")).display()))?;
        }
        ConfigCommand::Show(ConfigArgs { file }) => print(toml::to_string(&read(file.as_deref())?)?.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration of a file, or the defaults.
pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Config> {
    let Some(file) = file else { return Ok(Config::default()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.trim().is_empty() {
        bail!(
            "{}: the file is empty, expected a configuration. A file that is being written looks like that, and the defaults \
             have no admission filters; for the defaults, leave `--config` out, or write a comment",
            file.display()
        );
    }
    Config::parse(&text).map_err(|error| anyhow!("{}:\n{error}", file.display()))
}
