//! `busway plugin check`: loads a plugin's files as the hub would, and says what they are or what is wrong with them.

use super::{CheckArgs, try_out::Files};
use crate::{
    cli::{output::Output, render::grouped},
    plugin::{Asked, Beyond, Limits, Version},
};
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode};

pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let files = Files::read(&args.file)?;
    let version = files.load(files.manifest.clone(), &[]).await?;
    let before = match &args.against {
        Some(other) => Some(files.asked(other).await?),
        None => None,
    };
    let beyond = before.map(|before: Asked| version.description().asked.beyond(&before));
    let mut out = Output::stdout();
    if out.is_terminal() && !args.json {
        let mut text = describe(&version)?;
        if let (Some(beyond), Some(other)) = (beyond, &args.against) {
            let beyond = beyond.map_or_else(|| "nothing".to_owned(), |beyond| beyond.to_string());
            writeln!(text, "  asks beyond    {beyond} (against {})", other.display())?;
        }
        out.line(text.trim_end())?;
    } else {
        out.line(serde_json::to_string_pretty(&form(&version, beyond))?)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What a file is, for a person.
pub(super) async fn text(files: &Files) -> anyhow::Result<String> {
    let version = files.load(files.manifest.clone(), &[]).await?;
    Ok(describe(&version)?.trim_end().to_owned())
}

/// In the words of a plugin's status in the API, as far as it has them.
fn form(version: &Version, beyond: Option<Option<Beyond>>) -> Value {
    let (about, needs) = (version.description(), version.described());
    let warnings = [about.warnings.clone(), version.grants().lacks()].concat();
    let mut form = json!({
        "name": version.name(), "kind": version.kind(), "version": about.version, "summary": about.summary,
        "sha256": version.sha256(), "size": version.size(),
        "exports": version.interface(), "imports": version.imports(), "subscriptions": version.subscriptions(),
        "emits": about.asked.emits, "asked": about.asked.names(), "granted": version.grants().names(),
        "isolation": version.isolation(), "concurrency": version.concurrency(), "order_by": version.order_by(),
        "needs": {"fuel": needs.fuel, "memory": needs.memory}, "limits": version.limits(),
        "warnings": warnings,
    });
    if let Some(beyond) = beyond {
        form["asks_beyond"] = json!(beyond);
    }
    form
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
    let needs = version.described();
    // Rounded up: a limit of as much is enough.
    let pages = needs.memory.div_ceil(1 << 10);
    writeln!(
        out,
        "  needs          {} fuel and {} KiB of memory to start",
        grouped(needs.fuel),
        grouped(pages as u64)
    )?;
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
