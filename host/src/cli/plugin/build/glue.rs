//! What stands between a plugin and the contract: SDK, bindings and WIT, written into the project's hidden directory. All of it
//! is made anew by every build, and what an earlier one wrote and this one does not is removed: a project can leave it out of version
//! control, and a change of its kind, or of this program, leaves nothing behind that would be compiled.

use super::{
    super::{
        packed,
        project::{Language, Project, World, write as write_file},
    },
    bindings,
};
use anyhow::Context;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Writes what the project's language needs.
pub(in super::super) fn write(project: &Project) -> anyhow::Result<()> {
    let hidden = project.hidden();
    let contract = packed::below("wit").map(|(path, text)| (path.into(), text.into()));
    fill(&hidden.join("wit"), contract.collect())?;
    fill(&hidden.join("sdk"), sdk(project)?)
}

/// Path and content.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn sdk(project: &Project) -> anyhow::Result<Files> {
    let mut files: Files =
        folders(project.language).iter().flat_map(|sdk| of_sdk(&format!("plugins/{sdk}"), project.world)).collect();
    if project.language == Language::Go {
        files.extend(bindings::go(project.world)?.into_iter().map(|(path, bytes)| (path.into(), bytes)));
    }
    Ok(files)
}

/// Makes a directory hold these files and no others.
fn fill(dir: &Path, files: Files) -> anyhow::Result<()> {
    for (path, bytes) in &files {
        write_file(&dir.join(path), bytes)?;
    }
    // Behind a link is what somebody else keeps.
    if fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir()) {
        let kept = files.iter().flat_map(|(path, _)| path.ancestors()).map(|path| dir.join(path)).collect();
        remove_others(dir, &kept).with_context(|| format!("cannot remove what is left over in {}", dir.display()))?;
    }
    Ok(())
}

/// Removes what is not among `kept`, files and the directories above them; a link, but nothing behind it.
fn remove_others(dir: &Path, kept: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        match (kept.contains(&path), entry.file_type()?.is_dir()) {
            (true, true) => remove_others(&path, kept)?,
            (true, false) => {}
            (false, true) => fs::remove_dir_all(path)?,
            (false, false) => fs::remove_file(path)?,
        }
    }
    Ok(())
}

fn folders(language: Language) -> &'static [&'static str] {
    match language {
        Language::Rust => &["sdk"],
        Language::C => &["sdk-c"],
        Language::Cpp => &["sdk-c", "sdk-cpp"],
        Language::Zig => &["sdk-c", "sdk-zig"],
        Language::Js | Language::Ts => &["sdk-js"],
        Language::Python => &["sdk-python"],
        Language::Go => &["sdk-go"],
        Language::AssemblyScript => &["sdk-assemblyscript"],
    }
}

/// An SDK, and of its folders `handler` and `filter` what is in the one that is wanted.
fn of_sdk(sdk: &str, world: World) -> Files {
    let other = if world == World::Handler { "filter/" } else { "handler/" };
    let wanted = packed::below(sdk).filter(|(path, _)| !path.starts_with(other));
    let files = wanted.map(|(path, text)| {
        let path = path.strip_prefix(world.as_str()).and_then(|path| path.strip_prefix('/')).unwrap_or(path);
        let text = if sdk == "plugins/sdk" { away_from_home(path, text) } else { text.to_owned() };
        (path.into(), text.into_bytes())
    });
    files.collect()
}

/// The Rust SDK is part of this repository's workspace, and reads its contract; in a project it is on its own.
fn away_from_home(path: &str, text: &str) -> String {
    let inherited = |key: &str, value: &str| (format!("{key}.workspace = true"), format!("{key} = {value:?}"));
    let changes = match path {
        "Cargo.toml" => vec![
            // Before the other, whose text it holds.
            inherited("rust-version", env!("CARGO_PKG_RUST_VERSION")),
            inherited("version", env!("CARGO_PKG_VERSION")),
            inherited("edition", "2024"),
            inherited("license", env!("CARGO_PKG_LICENSE")),
            inherited("repository", "https://github.com/busway/busway"),
        ],
        "src/bindings.rs" => vec![("\"../../wit\"".to_owned(), "\"../wit\"".to_owned())],
        _ => Vec::new(),
    };
    changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Name;

    #[test]
    fn what_another_kind_needed_goes_and_what_is_behind_a_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        let name: Name = "a".parse().unwrap();
        let project =
            |world| Project { dir: dir.path().into(), name: name.clone(), language: Language::Go, world, target: None };
        let all = || {
            let (mut files, mut left) = (BTreeSet::new(), vec![dir.path().join(".busway")]);
            while let Some(next) = left.pop() {
                match fs::symlink_metadata(&next).unwrap().is_dir() {
                    true => left.extend(fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path())),
                    false => drop(files.insert(next)),
                }
            }
            files
        };
        write(&project(World::Filter)).unwrap();
        let filter = all();
        write(&project(World::Handler)).unwrap();
        assert_ne!(all(), filter);
        let (own, sdk) = (dir.path().join("mine"), dir.path().join(".busway/sdk"));
        fs::create_dir(&own).unwrap();
        fs::write(own.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&own, sdk.join("linked")).unwrap();
        fs::create_dir_all(sdk.join("older/deeper")).unwrap();
        fs::write(sdk.join("older/deeper/file.go"), "").unwrap();
        fs::write(dir.path().join(".busway/other"), "").unwrap();
        write(&project(World::Filter)).unwrap();
        assert!(own.join("file").exists() && dir.path().join(".busway/other").exists() && !sdk.join("older").exists());
        assert_eq!(all().len(), filter.len() + 1, "and that which is none of the SDK's");
    }

    #[test]
    fn the_rust_sdk_inherits_nothing_from_a_workspace() {
        for (path, text) in packed::below("plugins/sdk") {
            let text = away_from_home(path, text);
            assert!(!path.ends_with(".toml") || !text.contains("workspace ="), "{path}");
            assert!(!path.ends_with(".toml") || text.contains("rust-version = \"1."), "{text}");
            assert!(!text.contains("path: \"../../wit\""), "{path}");
        }
    }
}
