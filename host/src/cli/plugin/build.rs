//! `busway plugin build`: from a project to a component that the hub takes.
//!
//! The glue is written into the project's hidden directory ([`glue`]), the language's own toolchain is run ([`toolchain`]), what
//! it gives is made a component and stripped in this process ([`component`]), checked as `plugin check` does, and only then put in place.

mod bindings;
mod component;
pub(super) mod glue;
mod toolchain;
mod tools;

use super::{
    CheckArgs, check,
    project::{Project, write},
};
use crate::cli::output::print;
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BuildArgs {
    /// The project: a directory with a busway.toml.
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// The file to write; without it, NAME.wasm in the project.
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Show what the tools say also when all goes well.
    #[arg(short, long)]
    pub(super) verbose: bool,
}

pub(super) async fn run(args: BuildArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let project = Project::read(&args.dir)?;
    glue::write(&project)?;
    let built = toolchain::run(&project, args.verbose)?;
    let bytes = component::finish(&built, project.world)
        .with_context(|| format!("what the {} toolchain made is no plugin", project.language.as_str()))?;
    let (name, out) = (&project.name, args.out.unwrap_or_else(|| project.dir.join(format!("{}.wasm", project.name))));
    // As the hub would see it: under the plugin's name, with the operator's file beside it.
    let aside = project.hidden().join("out").join(format!("{name}.wasm"));
    write(&aside, &bytes)?;
    let sidecar = [out.with_extension("toml"), project.dir.join(format!("{name}.toml"))];
    let sidecar = sidecar.iter().find_map(|file| fs::read(file).ok()).unwrap_or_default();
    write(&aside.with_extension("toml"), &sidecar)?;
    let code = check::run(CheckArgs { file: aside, against: None }).await?;
    // The operator's file first: the hub takes both up together, and never writes over what is there.
    if !out.with_extension("toml").exists() {
        put(&out.with_extension("toml"), &sidecar)?;
    }
    put(&out, &bytes)?;
    print(format_args!("{}: {} KB in {:.1} s", out.display(), bytes.len() / 1_000, began.elapsed().as_secs_f64()))?;
    Ok(code)
}

/// Written aside and renamed, so that a hub that looks on never sees half a file.
fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.new"));
    write(&aside, bytes)?;
    fs::rename(&aside, file).with_context(|| format!("cannot put {} in place", file.display()))
}
