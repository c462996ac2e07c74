//! What stands between a plugin and the contract: SDK, bindings and WIT, written into the project's hidden directory. All of it
//! is made anew by every build, so a project can leave it out of version control.

use super::{
    super::{
        packed,
        project::{Language, Project, World, write as write_file},
    },
    bindings,
};
use std::path::Path;

/// Writes what the project's language needs.
pub(in super::super) fn write(project: &Project) -> anyhow::Result<()> {
    let hidden = project.hidden();
    for (path, text) in packed::below("wit") {
        write_file(&hidden.join("wit").join(path), text.as_bytes())?;
    }
    let sdk = hidden.join("sdk");
    for folder in folders(project.language) {
        copy(&format!("plugins/{folder}"), project.world, &sdk)?;
    }
    let generated = match project.language {
        Language::C | Language::Cpp | Language::Zig => bindings::c(project.world)?,
        Language::Go => bindings::go(project.world)?,
        _ => Vec::new(),
    };
    for (path, bytes) in generated {
        write_file(&sdk.join(path), &bytes)?;
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
fn copy(sdk: &str, world: World, to: &Path) -> anyhow::Result<()> {
    let other = if world == World::Handler { "filter/" } else { "handler/" };
    for (path, text) in packed::below(sdk).filter(|(path, _)| !path.starts_with(other)) {
        let path = path.strip_prefix(world.as_str()).and_then(|path| path.strip_prefix('/')).unwrap_or(path);
        let text = if sdk == "plugins/sdk" { away_from_home(path, text) } else { text.to_owned() };
        write_file(&to.join(path), text.as_bytes())?;
    }
    Ok(())
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
