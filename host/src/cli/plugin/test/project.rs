//! Where a plugin's built file and its tests are. Pure but for looking into directories.

use crate::cli::plugin::project::{self, quoted};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A built plugin and its tests.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) wasm: PathBuf,
    /// A source that was changed after the file was built of it.
    pub(super) newer: Option<PathBuf>,
    /// In the order of their names.
    pub(super) tests: Vec<PathBuf>,
}

/// From a project that `busway plugin build` has built, from a directory with the one `NAME.wasm` and `tests/` in it (the file may also
/// be beside the directory, as `make plugins` puts it), or from the file, with `tests/` or `NAME/tests/` beside it.
pub(super) fn find(place: &Path) -> Result<Project, String> {
    let mut newer = None;
    let (wasm, dirs) = if place.join(project::FILE).is_file() {
        let wasm = last_build(place)?;
        newer = changed_since(place, &wasm);
        (wasm, vec![place.join("tests")])
    } else if place.is_dir() {
        (built(place)?, vec![place.join("tests")])
    } else if place.is_file() {
        let beside = place.parent().unwrap_or(Path::new("."));
        let own = place.file_stem().map(|stem| beside.join(stem).join("tests"));
        (place.to_owned(), own.into_iter().chain([beside.join("tests")]).collect())
    } else {
        return Err(format!("expected a project or a .wasm file, found nothing at {}", place.display()));
    };
    let expected = |dir: &PathBuf| format!("expected tests in {}/*.json", dir.display());
    let Some(dir) = dirs.iter().find(|dir| dir.is_dir()) else {
        let dirs: Vec<_> = dirs.iter().map(expected).collect();
        return Err(format!("{}, found no such directory", dirs.join(", or ")));
    };
    let tests = listed(dir, "json")?;
    if tests.is_empty() { Err(format!("{}, found none", expected(dir))) } else { Ok(Project { wasm, newer, tests }) }
}

/// Wherever it was put: the file that lies in the project may be of an earlier one.
fn last_build(dir: &Path) -> Result<PathBuf, String> {
    let project = project::Project::read(dir).map_err(|error| format!("{error:#}"))?;
    let built = project.built();
    if built.is_file() {
        return Ok(built);
    }
    let (shown, built) = (dir.display(), built.display());
    Err(format!(
        "expected what a build of {shown} made, {built}, found none: build it first, with `busway plugin build {}`",
        quoted(dir)
    ))
}

/// The latest of the sources that were changed after the build began, which is when its file is dated.
fn changed_since(dir: &Path, built: &Path) -> Option<PathBuf> {
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let built = modified(built)?;
    let changed = sources(dir).into_iter().filter_map(|path| Some((modified(&path)?, path)));
    changed.filter(|(at, _): &(SystemTime, PathBuf)| *at > built).max().map(|(_, path)| path)
}

/// Everything that may make a difference to a build: not what tools leave behind or write themselves, nor tests and texts.
fn sources(dir: &Path) -> Vec<PathBuf> {
    const NAMES: [&str; 7] =
        ["node_modules", "target", "tests", "__pycache__", "Cargo.lock", "package-lock.json", "go.sum"];
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().filter_map(Result::ok) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || name.ends_with(".wasm") || name.ends_with(".md") || NAMES.contains(&&*name) {
                continue;
            }
            // Links are not followed: they may lead in circles.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) { left.push(path) } else { found.push(path) }
        }
    }
    found
}

fn built(dir: &Path) -> Result<PathBuf, String> {
    let here = listed(dir, "wasm")?;
    let beside = || {
        let dir = dir.canonicalize().ok()?;
        let file = dir.parent()?.join(dir.file_name()?).with_extension("wasm");
        file.is_file().then_some(file)
    };
    match &here[..] {
        [one] => Ok(one.clone()),
        [] => beside().ok_or_else(|| {
            format!("expected a built plugin, NAME.wasm, in or beside {}, found none: build it first", dir.display())
        }),
        [first, second, ..] => Err(format!(
            "expected one .wasm file in {}, found {} and {}: name the one that is meant",
            dir.display(),
            first.display(),
            second.display()
        )),
    }
}

fn listed(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == ending) && !is_hidden(path)).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn of_a_project_the_last_build_is_tested_wherever_it_was_put() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        write("busway.toml", "name = \"a\"\nlanguage = \"go\"\nkind = \"filter\"");
        write("tests/one.json", "");
        write("a.wasm", "of an earlier one");
        let error = find(dir.path()).unwrap_err();
        assert!(error.contains("build it first, with `busway plugin build"), "{error}");
        write("main.go", "");
        write(".busway/out/a.wasm", "");
        let project = find(dir.path()).unwrap();
        assert!(project.wasm.ends_with(".busway/out/a.wasm") && project.newer.is_none(), "{project:?}");
        let later = SystemTime::now() + Duration::from_secs(10);
        let touch = |path: &str, at_time| {
            write(path, "");
            fs::File::options().write(true).open(at(path)).unwrap().set_modified(at_time).unwrap();
        };
        for path in ["tests/one.json", "README.md", ".git/index", "go.sum", "a.wasm", "node_modules/x/x.js"] {
            touch(path, later);
        }
        assert!(find(dir.path()).unwrap().newer.is_none(), "none of them is a source");
        touch("main.go", later);
        touch("inner/other.go", later + Duration::from_secs(1));
        assert_eq!(find(dir.path()).unwrap().newer, Some(at("inner/other.go")));
        write("busway.toml", "nonsense");
        assert!(find(dir.path()).unwrap_err().contains("busway.toml"));
    }

    #[test]
    fn a_project_is_found_from_its_directory_from_its_file_and_from_beside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/tests")).unwrap();
        fs::write(at("a/tests/z.json"), "").unwrap();
        fs::write(at("a/tests/b.json"), "").unwrap();
        assert!(find(&at("a")).unwrap_err().contains("build it first"));
        fs::write(at("a.wasm"), "").unwrap();
        for place in ["a", "a.wasm"] {
            let project = find(&at(place)).unwrap();
            assert_eq!(project.wasm.canonicalize().unwrap(), at("a.wasm").canonicalize().unwrap());
            assert_eq!(project.tests, [at("a/tests/b.json"), at("a/tests/z.json")]);
        }
        fs::write(at("a/own.wasm"), "").unwrap();
        assert_eq!(find(&at("a")).unwrap().wasm, at("a/own.wasm"));
        assert_eq!(find(&at("a/own.wasm")).unwrap().tests.len(), 2);
        fs::write(at("a/second.wasm"), "").unwrap();
        assert!(find(&at("a")).unwrap_err().contains("name the one that is meant"));
        assert!(find(&at("none")).unwrap_err().contains("found nothing at"));
        fs::remove_dir_all(at("a/tests")).unwrap();
        assert!(find(&at("a.wasm")).unwrap_err().contains("found no such directory"));
    }
}
