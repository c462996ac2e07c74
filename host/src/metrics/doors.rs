//! What publishers handed in, door by door: the one place where events from outside are counted.
//!
//! The unit is an event. At each door, once nothing is under way, `sent = accepted + duplicate +
//! rejected`: an event is sent when the hub has decided on it or put it in line, and each has one
//! of the three ends. Of several handed in together all are accepted or duplicates, or all are
//! rejected; a text of which it cannot be told how many events it was meant to hold counts as one.

use super::{Counter, Exposition};
use serde::Serialize;
use std::{collections::BTreeMap, ops::Index};

/// Where events from outside come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `POST /v1/events` and `POST /v1/request`, so the command line's too.
    Http,
    /// Messages of WebSocket clients: `publish`, `request`, and those that become an event
    /// `ws.message_received`.
    Websocket,
    /// Code in this process.
    Library,
}

/// Why an event was not taken. A bounded set: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was no event, or a field was out of bounds.
    Invalid,
    /// Its body, or all that was handed in at once, was over a limit of size.
    TooLarge,
    /// Its body was of another media type, or encoded in a way that the hub does not read.
    Unsupported,
    /// Its body was not there in time.
    Timeout,
    /// An admission filter said no.
    Admission,
    /// An admission filter gave no verdict because others had the cores.
    Unanswered,
    /// There was no room for it at the time.
    Full,
    /// The hub was stopping.
    Stopped,
    /// The journal could not be written.
    Journal,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::Websocket, Self::Library];

    /// The label `door`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Websocket => "websocket",
            Self::Library => "library",
        }
    }
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Invalid,
        Self::TooLarge,
        Self::Unsupported,
        Self::Timeout,
        Self::Admission,
        Self::Unanswered,
        Self::Full,
        Self::Stopped,
        Self::Journal,
    ];

    /// The label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::Admission => "admission",
            Self::Unanswered => "unanswered",
            Self::Full => "full",
            Self::Stopped => "stopped",
            Self::Journal => "journal",
        }
    }
}

/// So many for each door.
pub type PerDoor = [u64; Door::ALL.len()];

/// The counters of one door.
#[derive(Debug, Default)]
pub struct DoorCounters {
    /// Events handed in.
    pub sent: Counter,
    /// Events that got a seq.
    pub accepted: Counter,
    /// Events that had been published before and were not stored again.
    pub duplicate: Counter,
    rejected: [Counter; Reason::ALL.len()],
}

impl DoorCounters {
    /// Events that were not taken, for one reason.
    pub fn rejected(&self, reason: Reason) -> &Counter {
        &self.rejected[reason as usize]
    }

    /// Counts events that were handed in and not taken.
    pub fn reject(&self, events: u64, reason: Reason) {
        self.sent.add(events);
        self.rejected(reason).add(events);
    }
}

/// The counters of all doors.
#[derive(Debug, Default)]
pub struct Doors([DoorCounters; Door::ALL.len()]);

impl Index<Door> for Doors {
    type Output = DoorCounters;

    fn index(&self, door: Door) -> &DoorCounters {
        &self.0[door as usize]
    }
}

/// The numbers of one door, or of all together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoorStats {
    /// Events handed in.
    pub sent: u64,
    /// Events that got a seq.
    pub accepted: u64,
    /// Events that had been published before.
    pub duplicate: u64,
    /// Events that were not taken, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// The name, the help text and the counter of a family with one sample for each door.
type Family = (&'static str, &'static str, fn(&DoorCounters) -> &Counter);

impl Doors {
    /// The numbers of each door, by its name.
    pub fn stats(&self) -> BTreeMap<&'static str, DoorStats> {
        Door::ALL.into_iter().map(|door| (door.as_str(), self[door].stats())).collect()
    }

    /// Adds to `accepted` and `duplicate` of each door.
    pub fn taken(&self, accepted: PerDoor, duplicate: PerDoor) {
        for (counters, (accepted, duplicate)) in self.0.iter().zip(accepted.into_iter().zip(duplicate)) {
            counters.accepted.add(accepted);
            counters.duplicate.add(duplicate);
        }
    }

    /// Adds to `rejected` of each door. The events count as sent already.
    pub fn failed(&self, events: PerDoor, reason: Reason) {
        for (counters, events) in self.0.iter().zip(events) {
            counters.rejected(reason).add(events);
        }
    }

    /// All doors together.
    pub fn sent(&self) -> u64 {
        self.0.iter().map(|door| door.sent.get()).sum()
    }

    /// All doors together.
    pub fn duplicate(&self) -> u64 {
        self.0.iter().map(|door| door.duplicate.get()).sum()
    }

    /// All doors together.
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.0.iter().map(|door| door.rejected(reason).get()).sum()
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let families: [Family; 3] = [
            (
                "busway_events_sent_total",
                "Events that publishers handed in: accepted, duplicate and rejected ones together.",
                |door| &door.sent,
            ),
            ("busway_events_accepted_total", "Events of publishers that got a seq.", |door| &door.accepted),
            (
                "busway_events_duplicate_total",
                "Events of publishers that had come before and were not stored again.",
                |door| &door.duplicate,
            ),
        ];
        for (name, help, counter) in families {
            out.family(name, "counter", help);
            for door in Door::ALL {
                out.sample(name, &[("door", door.as_str())], counter(&self[door]).get());
            }
        }
        let name = "busway_events_rejected_total";
        out.family(name, "counter", "Events of publishers that were not taken.");
        for door in Door::ALL {
            for reason in Reason::ALL {
                let labels = [("door", door.as_str()), ("reason", reason.as_str())];
                out.sample(name, &labels, self[door].rejected(reason).get());
            }
        }
    }
}

impl DoorCounters {
    fn stats(&self) -> DoorStats {
        let rejected = Reason::ALL.into_iter().map(|reason| (reason.as_str(), self.rejected(reason).get()));
        DoorStats {
            sent: self.sent.get(),
            accepted: self.accepted.get(),
            duplicate: self.duplicate.get(),
            rejected: rejected.collect(),
        }
    }
}
