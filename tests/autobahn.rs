//! The cases of Autobahn's test suite, run by `kosoku` (PyPI) against a hub.
//!
//! They are written for a server that sends each message back. Here that is a hub, with a proxy
//! before it that passes on what the client sends as it is, byte by byte. Of what the hub sends it
//! leaves out what is none of the client's messages, and takes those out of their events:
//! `ws.message_received`. All other frames go through as they are.

use crate::{conformance::built::toolchains, hub::TestHub};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{env, io, net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Command,
    time::timeout,
};

/// It takes seconds on an idle machine.
const SUITE: Duration = Duration::from_secs(300);

/// What does not apply: binary messages, which the hub refuses (1003); messages of 1 MiB and more,
/// which no event holds; and compression, on which the hub agrees with nobody.
const EXCLUDED: &[&str] = &[
    "1.2.*", "9.1.3", "9.1.4", "9.1.5", "9.1.6", "9.2.*", "9.3.*", "9.4.*", "9.5.*", "9.6.*", "9.8.*", "12.*", "13.*",
];

#[tokio::test(flavor = "multi_thread")]
async fn autobahns_cases_pass() {
    let kosoku = toolchains().join("venv/bin/kosoku");
    if !kosoku.exists() {
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "`make toolchains` comes first");
        return println!("left out: kosoku is not installed; `make toolchains` does it");
    }
    let hub = TestHub::with(|config| config.websocket.max_message_bytes = 1 << 20).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = hub.addr();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(echo(client, to));
        }
    });
    let mut suite = Command::new(kosoku);
    suite.arg("--outdir").arg(hub.dir.path().join("reports")).args(["--parallelism", "8"]).arg(address.to_string());
    suite.args(EXCLUDED.iter().flat_map(|case| ["--exclude", case])).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(SUITE, suite.output()).await.expect("it ends").unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

async fn echo(client: TcpStream, hub: SocketAddr) -> io::Result<()> {
    let hub = TcpStream::connect(hub).await?;
    let _ = (client.set_nodelay(true), hub.set_nodelay(true));
    let ((from_client, to_client), (from_hub, to_hub)) = (client.into_split(), hub.into_split());
    let (there, back) = tokio::join!(there(from_client, to_hub), back(from_hub, to_client));
    there.and(back)
}

/// What the client sends: of the handshake, only the path is another.
async fn there(client: OwnedReadHalf, mut hub: OwnedWriteHalf) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await?;
    hub.write_all(b"GET /ws/events?types=ws.message_received HTTP/1.1\r\n").await?;
    tokio::io::copy_buf(&mut client, &mut hub).await?;
    hub.shutdown().await
}

#[derive(Deserialize)]
struct Event {
    data: Received,
}

#[derive(Deserialize)]
struct Received {
    connection_id: String,
    message: Box<RawValue>,
}

async fn back(hub: OwnedReadHalf, mut client: OwnedWriteHalf) -> io::Result<()> {
    let mut hub = BufReader::new(hub);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        hub.read_line(&mut line).await?;
        client.write_all(line.as_bytes()).await?;
    }
    let mut own = None;
    while let Ok(first) = hub.read_u8().await {
        let length = match hub.read_u8().await? {
            126 => u64::from(hub.read_u16().await?),
            127 => hub.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        hub.read_exact(&mut payload).await?;
        let mut out = Vec::new();
        if first != 0x81 {
            assert!(length < 126, "the hub sends texts and control frames");
            out = [&[first, length as u8], &payload[..]].concat();
        } else if own.is_none() {
            let welcome: Value = serde_json::from_slice(&payload)?;
            own = Some(welcome["connection_id"].as_str().unwrap().to_owned());
        } else if let Ok(Event { data }) = serde_json::from_slice::<Event>(&payload)
            && Some(data.connection_id) == own
        {
            let message = data.message.get();
            // What is no JSON comes as a string.
            out = text_frame(&serde_json::from_str::<String>(message).unwrap_or_else(|_| message.to_owned()));
        }
        client.write_all(&out).await?;
    }
    client.shutdown().await
}

fn text_frame(text: &str) -> Vec<u8> {
    let header = match text.len() {
        short @ 0..126 => vec![0x81, short as u8],
        medium @ 126..=0xffff => [&[0x81, 126][..], &(medium as u16).to_be_bytes()].concat(),
        long => [&[0x81, 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    [header, text.into()].concat()
}
