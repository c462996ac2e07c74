//! A process that confines itself as the hub does and then does what it is told, a line at a time: what the kernel says of it is what
//! it would say to the hub. Arguments: what it reads, what it writes, its port. Answers are `ok` or the kind of the error.

use busway::confine::{ConfineConfig, Needs, confine};
use std::{
    fs,
    io::{self, BufRead},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [read, write, port] = &arguments[..] else { panic!("expected READ WRITE PORT, found {arguments:?}") };
    let needs =
        Needs { read: vec![read.into()], write: vec![write.into()], rename: Vec::new(), listen: port.parse().unwrap() };
    println!("{}", confine(&ConfineConfig::default(), needs).unwrap());
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match run(&line.split(' ').collect::<Vec<_>>()) {
            Ok(()) => println!("ok"),
            Err(error) => println!("{:?}", error.kind()),
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        ["read", path] => fs::read(path).map(drop),
        ["list", path] => fs::read_dir(path).map(drop),
        ["write", path] => fs::write(path, "written"),
        ["truncate", path] => fs::OpenOptions::new().write(true).open(path)?.set_len(0),
        ["mkdir", path] => fs::create_dir(path),
        ["rename", from, to] => fs::rename(from, to),
        ["link", from, to] => symlink(from, to),
        ["remove", path] => fs::remove_file(path),
        ["connect", address] => TcpStream::connect(address).map(drop),
        ["listen", address] => TcpListener::bind(address).map(drop),
        // It reads to the end of its own, empty, input.
        ["again"] => {
            let itself = Command::new("/proc/self/exe").args(["/proc", "/proc", "0"]).stdin(Stdio::null()).output()?;
            let failed = || io::Error::other(String::from_utf8_lossy(&itself.stderr).into_owned());
            itself.status.success().then_some(()).ok_or_else(failed)
        }
        ["start", program] => Command::new(Path::new(program)).stdin(Stdio::null()).output().map(drop),
        _ => panic!("{words:?}"),
    }
}
