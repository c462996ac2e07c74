//! Whether a plugin's schema can be compiled, tried in a process of its own first.
//! [`Schema::compile`] is bounded by itself; this is for what nobody foresaw, in the library for
//! regular expressions for example: a crash there is an error of the plugin's file.

use super::{Compiler, Job, REFUSED};
use crate::plugin::{
    LoadError,
    limits::{MAX_SCHEMA_BYTES, SCHEMA_CPU, SCHEMA_TIME},
    schema::Schema,
};
use std::io::{self, Read, Write};

/// The sub-command by which the program checks a schema.
pub const SCHEMA_SUB_COMMAND: &str = "check-schema";

const CHECKING: Job = Job {
    sub_command: SCHEMA_SUB_COMMAND,
    name: "the check of its schema",
    cpu: SCHEMA_CPU,
    refused: LoadError::Describe,
};

impl Compiler {
    /// Tries to compile a schema where it can do no harm. With [`Compiler::Here`] there is no such
    /// place.
    pub(in crate::plugin) async fn try_schema(&self, text: &str) -> Result<(), LoadError> {
        match self {
            Self::Here => Ok(()),
            // Refused for its size without a process.
            Self::Child(_) if text.len() > MAX_SCHEMA_BYTES => Ok(()),
            Self::Child(program) => CHECKING.run_within(SCHEMA_TIME, program, text.as_bytes()).await.map(drop),
        }
    }
}

/// What the sub-command does: compiles the schema on stdin. The exit code is for [`Job::explain`].
///
/// # Errors
/// If the bounds cannot be set, or a pipe fails.
pub fn serve_as_schema_checker() -> io::Result<u8> {
    CHECKING.confine()?;
    let mut text = String::new();
    io::stdin().lock().take(MAX_SCHEMA_BYTES as u64 + 1).read_to_string(&mut text)?;
    match Schema::compile(&text) {
        Ok(_) => Ok(0),
        Err(problem) => {
            let problem = format!("what it says of itself does not hold: its schema: {problem}");
            io::stderr().lock().write_all(problem.as_bytes()).map(|()| REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    async fn tried_by(script: &str) -> Result<(), LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("checker");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Compiler::Child(program).try_schema("{}").await
    }

    #[tokio::test]
    async fn what_ends_the_process_is_an_error_of_the_file_and_a_process_that_cannot_work_is_none() {
        tried_by("exit 0").await.unwrap();
        for (script, code, text) in [
            ("echo too odd >&2; exit 3", "load.describe", "too odd"),
            ("echo stack overflow >&2; exec kill -ABRT $$", "load.describe", "gave up: stack overflow"),
            ("exec kill -SEGV $$", "load.describe", "the check of its schema crashed"),
            ("exec kill -XCPU $$", "load.describe", "was stopped after 5 s of CPU time"),
            ("exit 101", "load.describe", "panicked"),
            ("exit 1", "load.io", "it says nothing of the file"),
            ("exec kill -KILL $$", "load.io", "it was ended from outside"),
        ] {
            let error = tried_by(script).await.unwrap_err();
            assert_eq!(error.code(), code, "{script}: {error}");
            assert!(error.to_string().contains(text), "{script}: {error}");
        }
        let gone = Compiler::Child("/nowhere".into()).try_schema("{}").await.unwrap_err();
        assert_eq!(gone.code(), "load.io");
    }
}
