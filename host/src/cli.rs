//! The command line: one enum of commands, one file for each below `cli/`.
//!
//! All commands but `serve`, `config`, `journal` and those of `plugin` that take a file or a project are clients of a running hub and know it
//! only by its HTTP API. Start reading at [`Command`]; what the commands share is in `client` (HTTP), `sender` (publishing
//! with back-pressure) and `output` (stdout and stderr).

mod client;
mod completions;
mod config;
mod dead_letters;
mod demo;
mod duration;
mod event;
mod filter;
mod journal;
mod output;
mod plugin;
mod progress;
mod publish;
mod render;
mod request;
mod sender;
mod serve;
mod signals;
mod sse;
mod stats;
mod supervisor;
mod tail;

use crate::plugin::compile;
use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use client::Client;
use std::process::ExitCode;

/// What went wrong is on stderr.
const FAILED: u8 = 1;
/// `request` got no reply in time.
const TIMED_OUT: u8 = 2;
/// The command line itself is wrong: `EX_USAGE` of sysexits.h, because clap's own 2 would look like a timeout.
const USAGE: u8 = 64;
/// Interrupted before the end, as a shell reports it.
const INTERRUPTED: u8 = 130;

const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed (or damage found: journal), 2 no reply in time (request), 64 wrong usage, \
                          130 interrupted (publish).\nColours are off where NO_COLOR is set.";

/// Busway, an event hub that WebAssembly plugins extend while it runs.
#[derive(Debug, Parser)]
#[command(name = "busway", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Where the hub is.
    #[arg(long, global = true, env = "BUSWAY_URL", default_value = "http://127.0.0.1:8787", value_name = "URL")]
    url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub.
    Serve(serve::ServeArgs),
    /// Publish one event, or JSON lines from a file or pipe.
    Publish(publish::PublishArgs),
    /// Follow events as they happen.
    Tail(tail::TailArgs),
    /// Publish an event and wait for the reply to it.
    Request(request::RequestArgs),
    /// Show the hub's numbers.
    Stats(stats::StatsArgs),
    /// Show and steer plugins, or try a plugin file out.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Look at what handlers could not handle, hand it to them again, or throw it away.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Look into a data directory, check it, or move its events; needs no hub.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Play made-up but believable agent traffic into the hub.
    Demo(demo::DemoArgs),
    /// Print the completion script of a shell.
    Completions(completions::CompletionsArgs),
    /// What the hub starts itself as to compile a plugin: a component on stdin, machine code on stdout.
    #[command(hide = true, name = compile::SUB_COMMAND)]
    Compile,
}

/// Reads the command line, runs the command, says on stderr what went wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            output::usage(&error);
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let result = match cli.command {
        // Has something to do while there is only one thread.
        Command::Serve(args) => serve::run(args),
        // No threads, and no runtime: nothing that is not needed shall be there for a file to break.
        Command::Compile => compile::serve_as_compiler().map(ExitCode::from).map_err(Into::into),
        command => on_threads(run(cli.url, command)),
    };
    result.unwrap_or_else(|error| failed(&error))
}

/// Starts the async runtime with its threads, and ends it with the command.
fn on_threads(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Two at the least: a blocked write to stdout must not keep ctrl-c from being heard.
    let workers = std::thread::available_parallelism().map_or(2, |cpus| cpus.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(command);
    // Not waited for: a read of a silent stdin would keep the process alive.
    runtime.shutdown_background();
    result
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<output::Closed>() {
        return ExitCode::SUCCESS;
    }
    output::note(format_args!("{error:#}"));
    ExitCode::from(FAILED)
}

async fn run(url: String, command: Command) -> anyhow::Result<ExitCode> {
    let client = || Client::new(&url);
    match command {
        // Done before there was a runtime.
        Command::Serve(_) | Command::Compile => Ok(ExitCode::SUCCESS),
        Command::Publish(args) => publish::run(client()?, args).await,
        Command::Tail(args) => tail::run(client()?, args).await,
        Command::Request(args) => request::run(&client()?, args).await,
        Command::Stats(args) => stats::run(&client()?, args).await,
        Command::Plugin(command) => plugin::run(client, command).await,
        Command::DeadLetters(command) => dead_letters::run(&client()?, command).await,
        Command::Journal(command) => journal::run(command),
        Command::Config(command) => config::run(command),
        Command::Demo(args) => demo::run(&client()?, args).await,
        Command::Completions(args) => completions::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_url_can_stand_before_and_after_the_command() {
        for line in ["busway --url http://h:1 stats", "busway stats --url http://h:1"] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap().url, "http://h:1");
        }
    }

    #[test]
    fn every_documented_command_line_parses() {
        for line in [
            "serve --config busway.toml --plugins plugins --listen 127.0.0.1:0",
            "publish --type a.b --data -5 --source s --tag x --tag y --correlation-id c",
            "publish --type cargo.message -",
            "publish events.jsonl --skip-invalid --batch 10 --wait-ms 5",
            "tail --types task.* --sources a,b --tags x --exclude-tags y --from earliest --json --limit 3",
            "tail --filter urgent-only --params {} --from 7",
            "request --type a --data {} --reply-type b.* --timeout 500ms",
            "stats --json",
            "plugin list",
            "plugin show x",
            "plugin reload x",
            "plugin enable x",
            "plugin disable x",
            "plugin rollback x",
            "plugin new x --lang assemblyscript --kind filter --dir d",
            "plugin build x -o x.wasm -v",
            "plugin check x.wasm",
            "plugin call x.wasm --event - --params {} --config k=v --config l=w --kv a=b --attempt 2 --trace --json",
            "plugin bench x.wasm --events events.jsonl --calls 1000 --concurrency 2 --json",
            "plugin bench x.wasm --events - --seconds 2 --params {} --config k=v",
            "plugin test",
            "plugin test dir --update --filter counts",
            "plugin test x.wasm --junit out.xml --json",
            "dead-letters list --plugin x --code trap --since 2026-11-22T07:35:00Z --limit 5 --after 7 --json",
            "dead-letters show 7",
            "dead-letters replay 7 8",
            "dead-letters replay --plugin x",
            "dead-letters purge --all",
            "journal info --data d --json",
            "journal verify",
            "journal export --from 1 --to 9 --types a.*,b",
            "journal import --data d -",
            "config check busway.toml",
            "config show",
            "demo --rate 100 --seed 7 --count 1000",
            "demo --speed 2.5",
            "completions zsh",
        ] {
            let words = std::iter::once("busway").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "publish --data {}",
            "publish --type a --data {} file",
            "tail --params {}",
            "tail --from yesterday",
            "request --type a",
            "request --type a --reply-type b --timeout 30",
            "demo --rate 5 --speed 2",
            "demo --rate 0",
            "dead-letters replay",
            "dead-letters purge --all --plugin x",
            "dead-letters replay 7 --code x",
            "dead-letters list --since yesterday",
            "journal import",
            "plugin call x.wasm",
            "plugin call x.wasm --event - --attempt 0",
            "plugin bench x.wasm --events - --calls 5 --seconds 1",
            "plugin bench x.wasm --events - --concurrency 65",
        ] {
            let words = std::iter::once("busway").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
