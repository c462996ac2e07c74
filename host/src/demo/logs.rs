//! Log entries of the services around the agents. Some hold what a log should not: tokens, keys, passwords, addresses.
//! All of them are made up, and of the forms that are reserved for examples where there are such forms.

use super::chance::Chance;
use super::words;
use super::workflow::Thread;
use super::world::{self, Draft, World};
use crate::event::types;
use serde_json::json;

/// One entry in so many holds a secret.
const SECRET_ONE_IN: u64 = 5;

impl World {
    /// The services' own logging, which goes on whatever the agents do.
    pub(super) fn log_step(&mut self) {
        if self.closing {
            return;
        }
        let service = self.chance.pick(words::SERVICES);
        self.write_log(service, None);
        let pause = self.chance.around(1_100);
        self.agenda.after(pause, world::Step::Log);
    }

    /// One entry, in the name of a thread if there is one.
    pub(super) fn write_log(&mut self, source: &str, thread: Option<&Thread>) {
        let chance = &mut self.chance;
        let (level, message) =
            if chance.one_in(SECRET_ONE_IN) { ("debug", careless(chance)) } else { ordinary(chance) };
        let data = json!({"level": level, "service": source, "message": message});
        match thread {
            Some(thread) => self.emit_for(thread, types::LOG_ENTRY, source, data),
            None => self.emit(Draft::new(types::LOG_ENTRY, source, data)),
        }
    }
}

fn ordinary(chance: &mut Chance) -> (&'static str, String) {
    let millis = chance.between(2..900);
    let path = chance.pick(&["/v1/items", "/v1/search", "/v1/users/me", "/v1/uploads"]);
    match chance.between(0..10) {
        0..=3 => ("info", format!("GET {path} 200 in {millis} ms")),
        4 => ("info", format!("cache hit ratio {}.{} %", chance.between(80..99), chance.between(0..10))),
        5 => ("info", format!("loaded {} rows in {millis} ms", chance.between(10..20_000))),
        6 => ("debug", format!("connection pool: {} idle, {} busy", chance.between(0..8), chance.between(0..8))),
        7 => ("warn", format!("slow query: {} ms, expected below 500 ms", 500 + millis)),
        8 => ("warn", format!("retrying {path} after a timeout, attempt {}", chance.between(2..4))),
        _ => ("error", format!("POST {path} 502: upstream closed the connection after {millis} ms")),
    }
}

/// What a developer printed for an afternoon and forgot.
fn careless(chance: &mut Chance) -> String {
    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const URL_SAFE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    match chance.between(0..6) {
        0 => format!(
            "GET https://api.example.com/v2/items authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{}.{}",
            chance.text(40, URL_SAFE),
            chance.text(43, URL_SAFE)
        ),
        1 => format!("using AWS_ACCESS_KEY_ID=AKIA{}EXAMPLE in eu-central-1", chance.text(9, UPPER)),
        2 => format!("connecting: host=db.example.net user=app password={}-not-real", chance.hex(8)),
        3 => format!("sent the reset link to {}@example.com", chance.pick(words::USERS)),
        4 => format!("calling the model with api_key=sk-example-{}", chance.hex(24)),
        _ => format!("login of {}@example.org accepted, session_token={}", chance.pick(words::USERS), chance.hex(32)),
    }
}
