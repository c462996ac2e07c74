//! The `busway` program, built by the tests' own crate so that they know where it is.

fn main() -> std::process::ExitCode {
    busway::cli::main()
}
