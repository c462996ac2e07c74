//! The lineage of epochs: which epochs the log has had, and the first seq of
//! each. An event keeps the seq that it was given in its epoch, so a reader
//! that comes with an earlier epoch can go on, unless it has read past the
//! point where that epoch ended. Start reading at [`Lineage::differs_from`].

use crc32fast::Hasher;
use rusqlite::{Connection, params};
use serde::Serialize;
use uuid::Uuid;

/// The newest epochs that are kept; older ones are unknown again.
const MAX_EPOCHS: usize = 1_000;

/// An epoch and where it begins in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Epoch {
    /// The epoch's id.
    pub epoch: Uuid,
    /// The first seq that was, or will be, given in it.
    pub first: u64,
}

/// The epochs of a log, the oldest first; never empty. The last one is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage(Vec<Epoch>);

impl Lineage {
    /// That of a log that begins in a new epoch, with seq `first`.
    pub fn new(first: u64) -> Self {
        Self(vec![Epoch { epoch: Uuid::now_v7(), first }])
    }

    /// The epoch in which events are numbered now.
    pub fn current(&self) -> Uuid {
        self.0[self.0.len() - 1].epoch
    }

    /// All epochs that are known, the oldest first.
    pub fn epochs(&self) -> &[Epoch] {
        &self.0
    }

    /// The first seq at which this log may hold another event than the one that `epoch` had there:
    /// `u64::MAX` for the current epoch, `None` for an epoch that is not in the lineage.
    pub fn differs_from(&self, epoch: Uuid) -> Option<u64> {
        let index = self.0.iter().rposition(|known| known.epoch == epoch)?;
        // The least of all that follow: an epoch may end before the one in front of it did.
        Some(self.0[index + 1..].iter().map(|later| later.first).min().unwrap_or(u64::MAX))
    }

    /// This lineage and a new epoch that begins with `first`.
    #[must_use]
    pub(super) fn with_new_epoch(mut self, first: u64) -> Self {
        self.0.push(Epoch { epoch: Uuid::now_v7(), first });
        self.0.drain(..self.0.len().saturating_sub(MAX_EPOCHS));
        self
    }

    /// What the journal has; `None` if it has no epoch, or the current one is not what was written.
    /// Where an earlier one is not, it and what is before it are left out.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare("SELECT epoch, first, crc FROM epochs ORDER BY number DESC LIMIT ?1")?;
        let mut rows = statement.query([MAX_EPOCHS as i64])?;
        let mut epochs = Vec::new();
        while let Some(row) = rows.next()? {
            let (Ok(epoch), Ok(first)) = (row.get::<_, String>(0), row.get::<_, i64>(1)) else { break };
            // Written before there were checksums, or by a migration.
            let crc = row.get::<_, Option<i64>>(2).ok().flatten();
            if crc.is_some_and(|crc| crc != checksum(&epoch, first)) {
                break;
            }
            let (Ok(epoch), Ok(first)) = (Uuid::parse_str(&epoch), u64::try_from(first)) else { break };
            epochs.push(Epoch { epoch, first });
        }
        epochs.reverse();
        Ok((!epochs.is_empty()).then_some(Self(epochs)))
    }

    /// Replaces the lineage in the database by this one.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM epochs", [])?;
        let mut insert =
            connection.prepare("INSERT INTO epochs (number, epoch, first, crc) VALUES (?1, ?2, ?3, ?4)")?;
        for (number, Epoch { epoch, first }) in self.0.iter().enumerate() {
            let (epoch, first) = (epoch.to_string(), i64::try_from(*first).unwrap_or(i64::MAX));
            insert.execute(params![number as i64, epoch, first, checksum(&epoch, first)])?;
        }
        Ok(())
    }
}

fn checksum(epoch: &str, first: i64) -> i64 {
    let mut hasher = Hasher::new();
    hasher.update(epoch.as_bytes());
    hasher.update(&first.to_le_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_up_to_the_least_first_seq_of_those_after_it() {
        let one = Lineage::new(1);
        let two = one.clone().with_new_epoch(101);
        // Older than the one in front of it: the log went back twice.
        let three = two.clone().with_new_epoch(51);
        assert_eq!(three.differs_from(one.current()), Some(51));
        assert_eq!(three.differs_from(two.current()), Some(51));
        assert_eq!(three.differs_from(three.current()), Some(u64::MAX));
        assert_eq!(three.differs_from(Uuid::now_v7()), None);
        assert_eq!(two.differs_from(one.current()), Some(101));
    }

    #[test]
    fn the_newest_thousand_epochs_are_kept() {
        let mut lineage = Lineage::new(1);
        let first = lineage.current();
        for seq in 2..=MAX_EPOCHS as u64 {
            lineage = lineage.with_new_epoch(seq);
        }
        assert_eq!(lineage.differs_from(first), Some(2));
        let lineage = lineage.with_new_epoch(5_000);
        assert_eq!((lineage.epochs().len(), lineage.differs_from(first)), (MAX_EPOCHS, None));
    }
}
