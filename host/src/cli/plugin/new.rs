//! `busway plugin new`: a complete small project in the language of your choice, ready for `busway plugin build`.

use super::{
    build::glue,
    packed,
    project::{FILE, Language, Project, World, in_dir, write},
};
use crate::{cli::output::print, plugin::Name};
use anyhow::{Context, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct NewArgs {
    /// The plugin's name, also that of its file: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit.
    name: Name,
    /// The language to write it in.
    #[arg(long, value_enum)]
    lang: Language,
    /// What it is to be: called for events, or asked about them.
    #[arg(long, value_enum)]
    kind: World,
    /// The directory to make; without it, one of the plugin's name.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: NewArgs) -> anyhow::Result<ExitCode> {
    let NewArgs { name, lang, kind, dir } = args;
    let dir = dir.unwrap_or_else(|| PathBuf::from(name.as_str()));
    if lang == Language::Rust && name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        bail!(
            "expected a name that begins with a letter, because that of a Rust package has to, found {:?}",
            name.as_str()
        );
    }
    make_room(&dir)?;
    for (path, text) in files(&name, lang, kind) {
        write(&dir.join(path), text.as_bytes())?;
    }
    write(&dir.join(FILE), Project::stated(&name, lang, kind).as_bytes())?;
    // The editor wants the types at once.
    glue::write(&Project::read(&dir)?)?;
    print(format_args!(
        "{}: a {} in {}, with a README.md on how to go on; in short:\n  {}\n  busway plugin build",
        dir.display(),
        kind.as_str(),
        lang.as_str(),
        in_dir(&dir, lang.install())
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing of anybody's is written over.
fn make_room(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    // A repository that is as new as the plugin.
    let found = entries.filter(|entry| !entry.as_ref().is_ok_and(|entry| entry.file_name() == ".git")).count();
    if found > 0 {
        bail!("expected an empty directory or none, found {found} files in {}: give another with --dir", dir.display());
    }
    Ok(())
}

/// What is the same for all languages, what for both kinds, and what is for this one alone. The templates are about a plugin `my-plugin`.
fn files(name: &Name, lang: Language, kind: World) -> impl Iterator<Item = (PathBuf, String)> {
    let (name, snake) = (name.as_str().to_owned(), name.as_str().replace('-', "_"));
    let named = move |text: &str| text.replace("my-plugin", &name).replace("my_plugin", &snake);
    let (language, kind) = (lang.as_str(), kind.as_str());
    ["any/both".into(), format!("any/{kind}"), format!("{language}/both"), format!("{language}/{kind}")]
        .into_iter()
        .flat_map(|folder| packed::below(&format!("plugins/templates/{folder}")).collect::<Vec<_>>())
        .map(move |(path, text)| (named(path).into(), named(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn each_language_has_a_template_of_each_kind_with_everything_that_belongs_to_it() {
        let name: Name = "a-b".parse().unwrap();
        for lang in Language::value_variants() {
            for kind in [World::Handler, World::Filter] {
                let files: Vec<(PathBuf, String)> = files(&name, *lang, kind).collect();
                for wanted in ["a-b.toml", "README.md", ".gitignore", "tests"] {
                    assert!(files.iter().any(|(path, _)| path.starts_with(wanted)), "{lang:?} {kind:?}: {wanted}");
                }
                for (path, text) in &files {
                    let left = ["my-plugin", "my_plugin"].iter().any(|old| text.contains(old));
                    assert!(!left && !text.is_empty(), "{lang:?}: {}", path.display());
                }
            }
        }
    }

    #[test]
    fn a_directory_with_files_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(make_room(&dir.path().join("new")).is_ok());
        fs::create_dir_all(dir.path().join("repository/.git")).unwrap();
        assert!(make_room(&dir.path().join("repository")).is_ok());
        assert!(make_room(dir.path()).unwrap_err().to_string().contains("--dir"));
    }
}
