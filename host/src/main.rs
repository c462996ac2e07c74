//! The `busway` program: everything it does is a command of [`busway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    busway::cli::main()
}
