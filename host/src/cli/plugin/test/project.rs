//! Where a plugin's built file and its tests are. Pure but for looking into directories.

use std::path::{Path, PathBuf};

/// A built plugin and its tests.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) wasm: PathBuf,
    /// In the order of their names.
    pub(super) tests: Vec<PathBuf>,
}

/// From a directory with the one `NAME.wasm` and `tests/` in it (the file may also be beside the directory, as `make plugins` puts
/// it), or from the file, with `tests/` or `NAME/tests/` beside it.
pub(super) fn find(place: &Path) -> Result<Project, String> {
    let (wasm, dirs) = if place.is_dir() {
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
    if tests.is_empty() { Err(format!("{}, found none", expected(dir))) } else { Ok(Project { wasm, tests }) }
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
    let entries = std::fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
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
    use std::fs;

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
