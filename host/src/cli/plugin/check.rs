//! `busway plugin check`: loads a plugin's files as the hub would, and says what they are or what is wrong with them.

use super::{CheckArgs, try_out::Files};
use crate::{
    cli::output::print,
    plugin::{Limits, Version},
};
use std::{fmt::Write, process::ExitCode};

pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let files = Files::read(&args.file)?;
    let version = files.load(files.manifest.clone(), &[]).await?;
    let mut text = describe(&version)?;
    if let Some(other) = &args.against {
        let before = files.asked(other).await?;
        let beyond = version.description().asked.beyond(&before);
        let beyond = beyond.map_or_else(|| "nothing".to_owned(), |beyond| beyond.to_string());
        writeln!(text, "  asks beyond    {beyond} (against {})", other.display())?;
    }
    print(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn describe(version: &Version) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let about = version.description();
    writeln!(out, "{} {} {}: {}", version.kind().as_str(), version.name(), about.version, about.summary)?;
    writeln!(out, "  file           {} bytes, sha256 {}", version.size(), version.sha256())?;
    writeln!(out, "  world          {}-plugin, exports {}", version.kind().as_str(), version.interface())?;
    for (index, import) in version.imports().iter().enumerate() {
        writeln!(out, "  {:<14} {import}", if index == 0 { "imports" } else { "" })?;
    }
    for filter in version.subscriptions() {
        writeln!(out, "  subscribes to  {}", serde_json::to_string(filter).unwrap_or_default())?;
    }
    grants(version, &mut out)?;
    let order = version.order_by().map_or_else(|| "none".to_owned(), |by| format!("{by:?}"));
    writeln!(out, "  isolation      {:?}, concurrency {}, order {order}", version.isolation(), version.concurrency())?;
    limits(version.limits(), &mut out)?;
    for warning in about.warnings.iter().chain(&version.grants().lacks()) {
        writeln!(out, "  warning        {warning}")?;
    }
    Ok(out)
}

fn grants(version: &Version, out: &mut String) -> std::fmt::Result {
    let about = version.description();
    let list = |texts: Vec<String>| if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") };
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    writeln!(out, "  emits          {}", list(about.asked.emits.iter().map(ToString::to_string).collect()))?;
    writeln!(out, "  asks for       {}", list(owned(about.asked.names())))?;
    writeln!(out, "  is granted     {}", list(owned(version.grants().names())))
}

fn limits(limits: &Limits, out: &mut String) -> std::fmt::Result {
    let Limits { deadline, fuel, memory, outbox_events, outbox_bytes, emit_rate, .. } = limits;
    writeln!(out, "  limits         {deadline:?}, {fuel} fuel, {} MiB of memory", memory >> 20)?;
    let room = outbox_bytes >> 10;
    writeln!(out, "                 {outbox_events} events and {room} KiB out of a call, {emit_rate} events a second")
}
