//! From a file's bytes to the compiler's output, in a process of its own that may fail as it likes.
//!
//! The compiler is the part of wasmtime to which its security promise does not extend: a file made for it can have it take
//! hours, or all memory, or crash (<https://docs.wasmtime.dev/security.html>). So the hub starts itself again as a compiler: the
//! file on its stdin, what comes of it on its stdout, bounds on its memory and time that it sets itself before it reads anything.

pub(super) mod cache;
mod check;
pub(super) mod turns;

pub use check::{SCHEMA_SUB_COMMAND, serve_as_schema_checker};

use super::{
    LoadError, engine, gate,
    limits::{COMPILE_CPU, COMPILE_MEMORY, COMPILE_TIME, MAX_COMPILED_BYTES, MAX_FILE_BYTES},
};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

/// The sub-command by which the program is a compiler.
pub const SUB_COMMAND: &str = "compile-component";
/// What is kept of what the compiler says.
const MAX_WORDS: u64 = 4 << 10;
/// The file is refused; why is on stderr. Everything else that is not 0 is the end of a process.
const REFUSED: u8 = 3;
/// Everybody else's work comes first.
const NICENESS: i32 = 10;
/// A panic's exit code.
const PANICKED: i32 = 101;
/// `SIGXCPU` and `SIGABRT`.
const OUT_OF_TIME: i32 = 24;
const ABORTED: i32 = 6;
/// `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGKILL` and `SIGTERM`: no file does that to its compiler; the kernel that is out of memory, a
/// terminal and an operator do.
const FROM_OUTSIDE: [i32; 5] = [1, 2, 3, 9, 15];

/// Where files are compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compiler {
    /// In this process, without bounds: for a program that embeds a hub and trusts its plugins.
    #[default]
    Here,
    /// In a process of this program, which knows [`SUB_COMMAND`].
    Child(PathBuf),
}

impl Compiler {
    /// This program as its own compiler, also if its file was replaced since it was started.
    pub fn this_program() -> Self {
        Self::Child("/proc/self/exe".into())
    }

    /// The compiler's output for a component.
    pub(super) async fn compile(&self, engine: &wasmtime::Engine, bytes: &Arc<[u8]>) -> Result<Vec<u8>, LoadError> {
        match self {
            Self::Here => {
                let (engine, bytes) = (engine.clone(), bytes.clone());
                let compiled = tokio::task::spawn_blocking(move || precompile(&engine, &bytes)).await;
                // Wasmtime does not promise that its compiler never panics.
                compiled.unwrap_or_else(|panic| Err(LoadError::Compile(format!("the compiler gave up: {panic}"))))
            }
            Self::Child(program) => COMPILING.run_within(COMPILE_TIME, program, bytes).await,
        }
    }
}

fn precompile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine.precompile_component(bytes).map_err(|error| LoadError::Compile(format!("{error:#}")))
}

/// What a process of this program does with what it is given.
struct Job {
    sub_command: &'static str,
    /// What the process is called in errors.
    name: &'static str,
    /// CPU time that it may use.
    cpu: Duration,
    /// The error for an input that is refused, or that ends the process.
    refused: fn(String) -> LoadError,
}

const COMPILING: Job =
    Job { sub_command: SUB_COMMAND, name: "the compiler", cpu: COMPILE_CPU, refused: LoadError::Compile };

impl Job {
    /// How long it took by the clock says more of the machine than of the input, which has a limit
    /// of CPU time for itself.
    async fn run_within(&self, time: Duration, program: &Path, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let late = |_| Err(unable(io::Error::other(format!("it was not done after {} s", time.as_secs()))));
        timeout(time, run(self, program, bytes)).await.unwrap_or_else(late)
    }

    fn explain(&self, status: ExitStatus, words: &[u8]) -> LoadError {
        let (name, words) = (self.name, String::from_utf8_lossy(words));
        let words = super::host::printable(words.trim());
        (self.refused)(match (status.code(), status.signal()) {
            (Some(code), _) if code == i32::from(REFUSED) => words.into_owned(),
            (Some(PANICKED), _) => format!("{name} panicked: {words}"),
            (Some(_), _) => {
                return unable(io::Error::other(format!("it says nothing of the file ({status}): {words}")));
            }
            (_, Some(signal)) if FROM_OUTSIDE.contains(&signal) => {
                return unable(io::Error::other(format!("it was ended from outside ({status}); `reload` tries again")));
            }
            (_, Some(OUT_OF_TIME)) => format!("{name} was stopped after {} s of CPU time", self.cpu.as_secs()),
            (_, Some(ABORTED)) => format!("{name} had no memory left, of {COMPILE_MEMORY} bytes, or gave up: {words}"),
            _ => format!("{name} crashed ({status}): {words}"),
        })
    }

    /// Before anything of the input is read.
    fn confine(&self) -> io::Result<()> {
        let most = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
        setrlimit(Resource::As, most(COMPILE_MEMORY))?;
        // First a signal that says why, then, a second later, one that cannot be ignored.
        let cpu = self.cpu.as_secs();
        setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) })?;
        setrlimit(Resource::Core, most(0))?;
        setrlimit(Resource::Fsize, most(0))?;
        setrlimit(Resource::Nofile, most(32))?;
        // It may be as low already as it gets.
        let _ = nice(NICENESS);
        Ok(())
    }
}

/// Dropped, it ends the process.
async fn run(job: &Job, program: &Path, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    let mut command = Command::new(program);
    command.arg(job.sub_command).env_clear().current_dir("/").kill_on_drop(true);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(unable)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(unable(io::Error::other("it has no pipes")));
    };
    let feed = async {
        // One that ends before it has read everything says why by other means.
        let _ = stdin.write_all(bytes).await;
        drop(stdin);
    };
    let (mut output, mut words) = (Vec::new(), Vec::new());
    let mut stdout = stdout.take(MAX_COMPILED_BYTES as u64 + 1);
    let read = async {
        let read = stdout.read_to_end(&mut output).await;
        // No more is wanted, and nobody is to wait for a pipe that is full.
        drop(stdout);
        read
    };
    let listen = async {
        let mut stderr = stderr.take(MAX_WORDS);
        let _ = stderr.read_to_end(&mut words).await;
    };
    let ((), read, ()) = tokio::join!(feed, read, listen);
    read.map_err(unable)?;
    if output.len() > MAX_COMPILED_BYTES {
        return Err(LoadError::Compile(format!("expected at most {MAX_COMPILED_BYTES} bytes of code, found more")));
    }
    let status = child.wait().await.map_err(unable)?;
    if status.success() { Ok(output) } else { Err(job.explain(status, &words)) }
}

/// Of the file nothing is known.
pub(super) fn unable(error: io::Error) -> LoadError {
    LoadError::Compiler(Arc::new(error))
}

/// What the sub-command does: a component from stdin, what comes of it to stdout. The exit code is
/// for [`Job::explain`].
///
/// # Errors
/// If the bounds cannot be set, or a pipe fails.
pub fn serve_as_compiler() -> io::Result<u8> {
    COMPILING.confine()?;
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let compiled = gate::check(&bytes).and_then(|()| {
        let engine = engine::for_compiling().map_err(|error| LoadError::Compile(error.to_string()))?;
        precompile(&engine, &bytes)
    });
    match compiled {
        Ok(compiled) => io::stdout().lock().write_all(&compiled).map(|()| 0),
        Err(LoadError::Compile(why)) => io::stderr().lock().write_all(why.as_bytes()).map(|()| REFUSED),
        Err(error) => write!(io::stderr().lock(), "{error}").map(|()| REFUSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    /// Reads nothing, writes nothing, ends when it is told to.
    #[tokio::test]
    async fn a_compiler_that_does_not_end_is_ended_and_nothing_is_said_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (program, pid) = (dir.path().join("stuck"), dir.path().join("pid"));
        fs::write(&program, format!("#!/bin/sh\necho $$ > {}\nexec /bin/sleep 1000\n", pid.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let bytes = vec![0; 1 << 20];
        let error = COMPILING.run_within(Duration::from_secs(1), &program, &bytes).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run the compiler: it was not done after 1 s");
        let process = Path::new("/proc").join(fs::read_to_string(&pid).unwrap().trim()).join("cmdline");
        // Gone, or waiting to be collected: then it has no command line.
        while fs::read(&process).is_ok_and(|words| !words.is_empty()) {
            tokio::task::yield_now().await;
        }
    }
}
