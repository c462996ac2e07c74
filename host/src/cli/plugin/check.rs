//! `busway plugin check`: loads a plugin's files as the hub would, and says what they are or what is wrong with them.

use super::{CheckArgs, try_out::load};
use crate::{cli::output::print, plugin::Version};
use std::{fmt::Write, process::ExitCode};

pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let version = load(&args.file, &[]).await?;
    print(describe(&version)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn describe(version: &Version) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let about = version.description();
    writeln!(out, "{} {} {}: {}", version.kind().as_str(), version.name(), about.version, about.summary)?;
    writeln!(out, "  file           {} bytes, sha256 {}", version.size(), version.sha256())?;
    for filter in version.subscriptions() {
        writeln!(out, "  subscribes to  {}", serde_json::to_string(filter).unwrap_or_default())?;
    }
    let list = |texts: Vec<String>| if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") };
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    writeln!(out, "  emits          {}", list(about.asked.emits.iter().map(ToString::to_string).collect()))?;
    writeln!(out, "  asks for       {}", list(owned(about.asked.capabilities())))?;
    writeln!(out, "  is granted     {}", list(owned(version.grants().capabilities())))?;
    let order = version.order_by().map_or_else(|| "none".to_owned(), |by| format!("{by:?}"));
    writeln!(out, "  isolation      {:?}, concurrency {}, order {order}", version.isolation(), version.concurrency())?;
    let limits = version.limits();
    writeln!(
        out,
        "  limits         {:?}, {} fuel, {} MiB of memory",
        limits.deadline,
        limits.fuel,
        limits.memory >> 20
    )?;
    for warning in &about.warnings {
        writeln!(out, "  warning        {warning}")?;
    }
    Ok(out)
}
