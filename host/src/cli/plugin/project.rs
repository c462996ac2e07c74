//! A plugin's project: a directory with a `busway.toml` that says what is to be built of it.

use crate::{cli::output::note, plugin::Name};
use anyhow::{Context, anyhow};
use serde::Deserialize;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The file that makes a directory a project.
pub(super) const FILE: &str = "busway.toml";
/// Where a project keeps what its author need not see: the contract, bindings, what the toolchains leave.
pub(super) const HIDDEN: &str = ".busway";

/// A language that plugins can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Rust,
    Js,
    Ts,
    Python,
    C,
    Cpp,
    Zig,
    Go,
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

impl Language {
    /// As it is written in `busway.toml` and on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Ts => "ts",
            Self::Python => "python",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Zig => "zig",
            Self::Go => "go",
            Self::AssemblyScript => "assemblyscript",
        }
    }
}

/// What the plugin is for, which is which world of the contract it targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum World {
    /// Is called for each event that it subscribes to.
    Handler,
    /// Answers yes or no to a question about an event.
    Filter,
}

impl World {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Filter => "filter",
        }
    }
}

/// What `busway.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    name: Name,
    language: Language,
    kind: World,
    target: Option<String>,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) dir: PathBuf,
    pub(super) name: Name,
    pub(super) language: Language,
    pub(super) world: World,
    /// For Rust: which of its WebAssembly targets.
    pub(super) target: Option<String>,
}

impl Project {
    /// Reads a project's `busway.toml`.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join(FILE);
        let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!(
                "expected a plugin's project with a {FILE}, found none in {}; `busway plugin new` makes one, and for a project \
                 that is there already it holds three lines: name = \"my-plugin\", language = \"rust\", kind = \"handler\"",
                dir.display()
            ),
            _ => anyhow!(error).context(format!("cannot read {}", file.display())),
        })?;
        let stated: Stated = toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        if stated.target.is_some() && stated.language != Language::Rust {
            return Err(anyhow!("{}: expected `target` with language = \"rust\" only", file.display()));
        }
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        let Stated { name, language, kind, target } = stated;
        Ok(Self { dir, name, language, world: kind, target })
    }

    /// The text of a new project's `busway.toml`.
    pub(super) fn stated(name: &Name, language: Language, world: World) -> String {
        let (language, kind) = (language.as_str(), world.as_str());
        format!(
            "# What `busway plugin build` makes of this directory.\nname = \"{name}\"\nlanguage = \"{language}\"\nkind = \"{kind}\"\n"
        )
    }

    /// Where it keeps what its author need not see.
    pub(super) fn hidden(&self) -> PathBuf {
        self.dir.join(HIDDEN)
    }

    /// What the last build made, with the sidecar that it was checked under beside it; wherever else that build has put it.
    pub(super) fn built(&self) -> PathBuf {
        self.hidden().join("out").join(format!("{}.wasm", self.name))
    }

    /// Waits until nobody else builds the project; others wait for as long as the file is open.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let file = self.hidden().join("lock");
        let lock = || {
            fs::create_dir_all(self.hidden())?;
            let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&file)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    note(format_args!("waiting for another build of {}", self.dir.display()));
                    lock.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(lock)
        };
        lock().with_context(|| format!("cannot lock {}", file.display()))
    }
}

/// A command for a POSIX shell that is to be run in a directory, as a person can paste it.
pub(super) fn in_dir(dir: &Path, command: &str) -> String {
    if dir == Path::new(".") { command.to_owned() } else { format!("cd {} && {command}", quoted(dir)) }
}

/// A path as one word of a POSIX shell.
pub(super) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%=:,".contains(c);
    if path.chars().all(plain) && !path.starts_with('-') && !path.is_empty() {
        return path;
    }
    // A path that looks like an option is not one behind `./`.
    let here = if path.starts_with('-') { "./" } else { "" };
    format!("'{here}{}'", path.replace('\'', "'\\''"))
}

/// Writes a file and the directories above it, unless that is what it holds already: a toolchain that looks at times then has nothing
/// to do.
pub(super) fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let parent = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_new_states_is_what_build_reads() {
        let dir = tempfile::tempdir().unwrap();
        let name: Name = "my-plugin".parse().unwrap();
        let text = Project::stated(&name, Language::AssemblyScript, World::Filter);
        write(&dir.path().join(FILE), text.as_bytes()).unwrap();
        let project = Project::read(dir.path()).unwrap();
        assert_eq!((project.name, project.language, project.world), (name, Language::AssemblyScript, World::Filter));
    }

    #[test]
    fn a_command_can_be_pasted_whatever_the_directory_is_called() {
        for (dir, expected) in [
            (".", "make"),
            ("my-plugin", "cd my-plugin && make"),
            ("/tmp/it's mine", "cd '/tmp/it'\\''s mine' && make"),
            ("$(x)", "cd '$(x)' && make"),
            ("-p", "cd './-p' && make"),
        ] {
            assert_eq!(in_dir(Path::new(dir), "make"), expected);
        }
    }

    #[test]
    fn what_is_wrong_with_a_project_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            write(&dir.path().join(FILE), text.as_bytes()).unwrap();
            Project::read(dir.path()).unwrap_err().to_string()
        };
        assert!(Project::read(dir.path()).unwrap_err().to_string().contains("busway plugin new"));
        assert!(error("name = \"A\"\nlanguage = \"c\"\nkind = \"filter\"").contains("a plugin's name"));
        assert!(error("name = \"a\"\nlanguage = \"cobol\"\nkind = \"filter\"").contains("cobol"));
        assert!(error("name = \"a\"\nlanguage = \"c\"\nkind = \"filter\"\ntarget = \"x\"").contains("rust"));
    }
}
