//! `busway plugin build`: from a project to a component that the hub takes.
//!
//! The glue is written into the project's hidden directory ([`glue`]), the language's own toolchain is run ([`toolchain`]), what
//! it gives is made a component and stripped in this process ([`component`]), checked as `plugin check` does, and only then put in place.
//! A copy stays in the hidden directory, for `plugin test`.

mod bindings;
mod component;
pub(super) mod glue;
mod toolchain;
mod tools;

use super::{
    check,
    project::{Project, write},
    try_out::Files,
};
use crate::{
    cli::output::{note, print},
    plugin::Name,
};
use anyhow::{Context, anyhow, bail};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Instant, SystemTime},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BuildArgs {
    /// The project: a directory with a busway.toml.
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// Where to put it: a file NAME.wasm, or a directory for it; without it, NAME.wasm in the project.
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(super) out: Option<PathBuf>,
    /// Show what the tools say also when all goes well.
    #[arg(short, long)]
    pub(super) verbose: bool,
}

pub(super) async fn run(args: BuildArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let project = Project::read(&args.dir)?;
    let (out, name) = destination(&project, args.out)?;
    note(format_args!("building {} ({}) …", project.name, project.language.as_str()));
    let _lock = project.lock()?;
    // What is saved from here on may not be part of it.
    let read = SystemTime::now();
    glue::write(&project)?;
    let built = toolchain::run(&project, args.verbose)?;
    let bytes = component::finish(&built, project.world)
        .with_context(|| format!("what the {} toolchain made is no plugin", project.language.as_str()))?;
    let sidecars = Sidecars::read(&project, &out)?;
    let kept = project.built();
    put(&kept.with_extension("toml"), sidecars.in_force())?;
    put(&kept, &bytes)?;
    let dated = File::options().write(true).open(&kept).and_then(|file| file.set_modified(read));
    dated.with_context(|| format!("cannot date {}", kept.display()))?;
    // As the hub would see it: under the name of its file, with the operator's beside it.
    print(check::text(&Files::read_as(&kept, name)?).await?)?;
    sidecars.place(&out, &bytes)?;
    print(format_args!("{}: {} KB in {:.1} s", out.display(), bytes.len() / 1_000, began.elapsed().as_secs_f64()))?;
    Ok(ExitCode::SUCCESS)
}

/// The file to write, and the plugin's name that it makes.
fn destination(project: &Project, out: Option<PathBuf>) -> anyhow::Result<(PathBuf, Name)> {
    let file = format!("{}.wasm", project.name);
    let out = match out {
        None => project.dir.join(file),
        Some(dir) if dir.is_dir() || dir.as_os_str().as_encoded_bytes().ends_with(b"/") => dir.join(file),
        Some(file) => file,
    };
    if out.extension().is_none_or(|ending| ending != "wasm") {
        bail!("--out: expected a file that ends in .wasm, or a directory that is there, found {}", out.display());
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.parse().with_context(|| format!("--out {}", out.display()))?;
    Ok((out, name))
}

/// What operators say: the project, and who keeps the plugin where it is put.
struct Sidecars {
    project: (PathBuf, Option<Vec<u8>>),
    there: (PathBuf, Option<Vec<u8>>),
}

impl Sidecars {
    fn read(project: &Project, out: &Path) -> anyhow::Result<Self> {
        let read = |file: PathBuf| match fs::read(&file) {
            Ok(bytes) => Ok((file, Some(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((file, None)),
            Err(error) => Err(anyhow!(error).context(format!("cannot read {}", file.display()))),
        };
        let own = project.dir.join(format!("{}.toml", project.name));
        Ok(Self { project: read(own)?, there: read(out.with_extension("toml"))? })
    }

    /// What the hub goes by.
    fn in_force(&self) -> &[u8] {
        self.there.1.as_ref().or(self.project.1.as_ref()).map_or(&[], Vec::as_slice)
    }

    /// Puts the component there, and the project's sidecar first where there is none: a hub that looks on never sees the one without
    /// the other. What is there is never written over.
    fn place(&self, out: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let wasm = aside(out, bytes)?;
        match self {
            Self { project: (own, Some(ours)), there: (file, Some(theirs)) } if ours != theirs => {
                note(format_args!("{} is not the same as {}: left as it is", file.display(), own.display()));
            }
            // A link to nothing is there as well.
            Self { project: (_, Some(ours)), there: (file, None) } if fs::symlink_metadata(file).is_err() => {
                put(file, ours)?;
            }
            _ => {}
        }
        rename(&wasm, out)
    }
}

/// Written aside and renamed, so that a hub that looks on never sees half a file.
fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    rename(&aside(file, bytes)?, file)
}

/// Where the file can be renamed from.
fn aside(file: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.new"));
    write(&aside, bytes)?;
    Ok(aside)
}

fn rename(aside: &Path, file: &Path) -> anyhow::Result<()> {
    fs::rename(aside, file).with_context(|| format!("cannot put {} in place", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plugin::project::{Language, World};

    #[test]
    fn a_component_is_put_where_the_hub_takes_it_for_a_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let (name, world) = ("my-plugin".parse().unwrap(), World::Handler);
        let project = Project { dir: "/p".into(), name, language: Language::C, world, target: None };
        let there = |out: &str| {
            let (file, name) = destination(&project, Some(dir.path().join(out))).unwrap();
            (file.strip_prefix(dir.path()).unwrap().display().to_string(), name.to_string())
        };
        assert_eq!(destination(&project, None).unwrap().0, Path::new("/p/my-plugin.wasm"));
        assert_eq!(there(""), ("my-plugin.wasm".into(), "my-plugin".into()));
        assert_eq!(there("new/"), ("new/my-plugin.wasm".into(), "my-plugin".into()));
        assert_eq!(there("other.wasm"), ("other.wasm".into(), "other".into()));
        for (out, problem) in [
            ("plugins", "ends in .wasm, or a directory that is there"),
            ("x.WASM", "ends in .wasm"),
            ("My Plugin.wasm", "a plugin's name"),
            (".wasm", "ends in .wasm"),
        ] {
            let error = destination(&project, Some(out.into())).unwrap_err();
            assert!(format!("{error:#}").contains(problem), "{out}: {error:#}");
        }
    }
}
