//! `busway completions`: the completion script of a shell, made from the commands themselves.

use super::{Cli, output};
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

/// Put the script where your shell looks for it, for example:
/// busway completions bash > ~/.local/share/bash-completion/completions/busway
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

pub(super) fn run(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    // Into memory first: clap_complete panics when it cannot write, and the reader may have closed the pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "busway", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
