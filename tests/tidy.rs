//! The house rules, as tests: who may import whom, how long a file may be, what does not belong in it.

use busway::plugin::LimitsOverride;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What a module of the host may import from the others. A submodule may import what its parent may.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("metrics", &[]),
    ("incoming", &["metrics"]),
    ("kv", &["event"]),
    ("listen", &[]),
    ("seconds", &[]),
    ("text", &[]),
    ("journal", &["event", "metrics", "seconds"]),
    ("log", &["event", "journal", "metrics", "seconds"]),
    ("bus", &["event", "log", "metrics"]),
    ("plugin", &["event", "kv", "metrics", "text"]),
    ("plugin/registry", &["event", "journal", "kv", "metrics", "plugin"]),
    ("plugin/lane", &["bus", "event", "journal", "kv", "log", "metrics", "plugin", "question"]),
    ("question", &["event", "log", "metrics", "plugin"]),
    ("ws", &["bus", "event", "incoming", "log", "metrics", "question", "seconds"]),
    (
        "http",
        &["bus", "event", "incoming", "journal", "listen", "log", "metrics", "plugin", "question", "seconds", "ws"],
    ),
    ("confine", &[]),
    ("config", &["bus", "confine", "http", "journal", "log", "plugin", "seconds", "ws"]),
    (
        "hub",
        &["bus", "config", "event", "http", "incoming", "journal", "kv", "log", "metrics", "plugin", "question", "ws"],
    ),
    ("demo", &["event"]),
    ("cli", &["bus", "config", "confine", "demo", "event", "hub", "journal", "kv", "listen", "plugin", "text"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Foreign crates that stay behind a fence: nobody else knows them.
const FENCES: &[(&str, &[&str])] = &[
    ("wasmtime", &["plugin"]),
    ("wasmtime_wasi", &["plugin"]),
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("tungstenite", &["ws", "http/websocket", "log/frames"]),
    ("notify", &["plugin/watcher"]),
    ("rusqlite", &["journal"]),
    ("landlock", &["confine"]),
    ("rustix::thread", &["confine", "plugin/threads"]),
    ("jsonschema", &["plugin/schema"]),
    ("regex_automata", &["plugin/schema"]),
    ("clap", &["cli"]),
    ("reqwest", &["cli"]),
    ("indicatif", &["cli"]),
    ("wit_component", &["cli/plugin/build"]),
    ("wit_parser", &["cli/plugin/build"]),
    ("wit_bindgen_c", &["cli/plugin/build"]),
    ("wit_bindgen_core", &["cli/plugin/build"]),
    ("wit_bindgen_go", &["cli/plugin/build"]),
];

/// Longest file without its tests.
const MAX_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "node_modules" {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found
}

/// Module path (`plugin/lane`) and source of each file of the host.
fn host() -> BTreeMap<String, String> {
    let src = root().join("host/src");
    let module = |path: &Path| path.strip_prefix(&src).unwrap().with_extension("").to_string_lossy().into_owned();
    files(&src, "rs").iter().map(|path| (module(path), fs::read_to_string(path).unwrap())).collect()
}

/// A file's lines up to its tests.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"))
}

fn within(module: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| module == *room || module.starts_with(&format!("{room}/")))
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (module, source) in host() {
        let rule = MAY_IMPORT.iter().filter(|(room, _)| within(&module, &[room])).max_by_key(|(room, _)| room.len());
        let Some((room, allowed)) = rule else {
            wrong.push(format!("{module} is in no row of the table"));
            continue;
        };
        let own = room.split('/').next().unwrap();
        let text: String = code(&source).collect::<Vec<_>>().join("\n");
        // `use crate::{a::…, b::…}` and every `crate::a` in the text.
        let mut imports: Vec<String> = Vec::new();
        for part in text.split("crate::").skip(1) {
            match part.strip_prefix('{') {
                Some(group) => imports.extend(top_level_names(group)),
                None => imports.extend(name(part)),
            }
        }
        for import in imports {
            if import != own && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{module} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && depth == 0 && !c.is_whitespace() => {
                names.extend(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn foreign_crates_stay_behind_their_fences() {
    let mut wrong = Vec::new();
    for (module, source) in host() {
        for (krate, rooms) in FENCES {
            let spoken = code(&source).any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && line
                        .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                        .any(|word| word.starts_with(&format!("{krate}::")))
            });
            if spoken && !within(&module, rooms) {
                wrong.push(format!("{module} speaks of {krate}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_enough_to_read() {
    let mut wrong = Vec::new();
    for path in ["host", "plugins", "tests"].iter().flat_map(|dir| files(&root().join(dir), "rs")) {
        let source = fs::read_to_string(&path).unwrap();
        if !source.starts_with("//!") {
            wrong.push(format!("{} does not begin with //!", path.display()));
        }
        let lines = code(&source).count();
        let is_test = path.starts_with(root().join("tests"));
        if lines > MAX_LINES && !is_test {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_unfinished_and_no_test_is_left_out() {
    // Put together here, so that this file does not find itself.
    let marks =
        [["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["#[ign", "ore"].concat(), ["FIX", "ME"].concat()];
    let mut wrong = Vec::new();
    for path in ["host", "plugins", "tests"].iter().flat_map(|dir| files(&root().join(dir), "rs")) {
        let source = fs::read_to_string(&path).unwrap();
        wrong.extend(
            marks.iter().filter(|mark| source.contains(*mark)).map(|mark| format!("{}: {mark}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_documentation_has_a_row_for_each_limit_with_its_bounds() {
    let docs = fs::read_to_string(root().join("docs/api.md")).unwrap();
    let mut missing = Vec::new();
    for key in LimitsOverride::KEYS {
        let expected = LimitsOverride::default().set(key, &serde_json::Value::Null).unwrap_err().expected;
        let (least, most) = expected.split_once(" to ").unwrap();
        let code = |text: &str| if text.starts_with('"') { format!("`{text}`") } else { text.to_owned() };
        let row = format!("| `{key}` | {} to {} ", code(least), code(most));
        if !docs.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// What would make the sandbox's promises worth nothing.
#[test]
fn unsafe_code_is_in_one_place_only() {
    let word = concat!("uns", "afe");
    let has_block = |text: &str| {
        code(text).any(|line| [" {", " fn", " impl"].iter().any(|end| line.contains(&format!("{word}{end}"))))
    };
    let found: Vec<String> = host().into_iter().filter(|(_, text)| has_block(text)).map(|(module, _)| module).collect();
    assert_eq!(found, ["plugin/compile/cache"]);
    let allowing = |text: &str| text.contains(&format!("allow({word}")) || text.contains(&format!("expect({word}"));
    let found: Vec<String> = host().into_iter().filter(|(_, text)| allowing(text)).map(|(module, _)| module).collect();
    assert_eq!(found, ["plugin/compile/cache"]);
}
