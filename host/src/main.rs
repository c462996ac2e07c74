//! The `busway` program: everything it does is a command of [`busway::cli`].

use std::process::ExitCode;

/// An event is made on one thread and freed on another; the system's allocator takes most of the time of publishing for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    busway::cli::main()
}
