//! The hub as a whole, over loopback: the server is this program again, in a process of its own ([`process`]), the clients are
//! as lean as they can be ([`clients`]). Prints a table.
//!
//! `cargo bench --bench hub` runs everything, `cargo bench --bench hub -- idle reload` only that.

#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]

mod clients;
mod durable;
mod fanout;
mod frames;
#[path = "../shared/guests.rs"]
mod guests;
mod idle;
mod nats;
mod pipeline;
mod process;
mod reload;
mod report;
#[path = "../shared/sample.rs"]
#[allow(dead_code, reason = "events go in as JSON here")]
mod sample;
mod stuck;

use report::Report;
use std::path::Path;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, dir, sync] = &args[..]
        && first == "serve"
    {
        return process::serve(Path::new(dir), sync);
    }
    type Part = (&'static str, fn(&mut Report));
    const PARTS: [Part; 9] = [
        ("fanout", fanout::run),
        ("nats", nats::run),
        ("stuck", stuck::run),
        ("live", stuck::live),
        ("durable", durable::publish),
        ("replay", durable::replay),
        ("idle", idle::run),
        ("pipeline", pipeline::run),
        ("reload", reload::run),
    ];
    // Cargo itself passes `--bench`.
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut report = Report::default();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            run(&mut report);
        }
    }
    report.print();
}
