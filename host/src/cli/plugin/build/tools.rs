//! The authors' toolchains: where they are found, and how they are run.

use anyhow::{Context, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Directories with toolchains for many projects, as `make toolchains` makes one: each may hold `venv/` and `npm/`.
const SHARED: &str = "BUSWAY_TOOLCHAINS";

pub(super) struct Tools {
    project: PathBuf,
    /// The project's own first, then the shared ones, then `PATH`.
    places: Vec<PathBuf>,
    verbose: bool,
}

impl Tools {
    pub(super) fn of(project: &Path, verbose: bool) -> Self {
        let mut places = vec![project.join("node_modules/.bin"), project.join(".venv/bin")];
        for shared in env::split_paths(&env::var_os(SHARED).unwrap_or_default()).filter(|path| path.is_absolute()) {
            places.extend([shared.join("venv/bin"), shared.join("npm/node_modules/.bin")]);
        }
        places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        Self { project: project.to_owned(), places, verbose }
    }

    /// The first tool with one of the names.
    pub(super) fn find(&self, names: &[&str]) -> Option<PathBuf> {
        self.places.iter().flat_map(|place| names.iter().map(move |name| place.join(name))).find(|file| file.is_file())
    }

    /// A command for the tool, which finds its own tools in the same places.
    pub(super) fn command(&self, names: &[&str], install: &str) -> anyhow::Result<Command> {
        let Some(tool) = self.find(names) else {
            let project = self.project.display();
            bail!(
                "expected the tool `{}`, found it nowhere (in node_modules/.bin and .venv/bin of {project}, in ${SHARED} and in \
                 $PATH); install it with:\n  {install}",
                names.join("` or `")
            );
        };
        let mut command = Command::new(tool);
        let path = env::join_paths(&self.places).with_context(|| {
            let project = self.project.display();
            format!("expected a project at a path without `:`, which separates the places in PATH, found {project}")
        })?;
        command.env("PATH", path);
        Ok(command)
    }

    /// Runs a tool to its end and returns what it wrote to stdout. What it said is shown when it fails.
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<Vec<u8>> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
            bail!(
                "{}\n{name} failed ({}); it was run as: {name} {}",
                said.trim_end(),
                output.status,
                arguments.join(" ")
            );
        }
        if self.verbose && !output.stderr.is_empty() {
            crate::cli::output::note(format_args!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
        Ok(output.stdout)
    }

    /// The same, for a tool whose last argument is the file that it is to write.
    pub(super) fn run_into(&self, mut command: Command, file: &Path) -> anyhow::Result<PathBuf> {
        command.arg(file);
        self.run(command)?;
        Ok(file.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_project_that_cannot_stand_in_path_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("a:b");
        let bin = project.join(".venv/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("a-tool"), "").unwrap();
        let error = Tools::of(&project, false).command(&["a-tool"], "").unwrap_err().to_string();
        assert!(error.contains("a path without `:`") && error.contains("a:b"), "{error}");
    }
}
