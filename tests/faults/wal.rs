//! Bits that turned in the log that SQLite writes ahead, after the hub was killed: SQLite takes what is before and says
//! nothing. Then the epoch is another, so nobody takes new events for those that are gone.

use super::{
    kept::Kept,
    program::{Place, copy},
    random::Random,
};
use busway::journal::FILE;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const FRAME: usize = 24 + 8_192;

/// What a hub left that was killed.
struct Left {
    dir: TempDir,
    epoch: String,
    /// The last seq that was acknowledged.
    head: u64,
    log: Vec<u8>,
}

fn log(dir: &Path) -> PathBuf {
    dir.join(format!("{FILE}-wal"))
}

async fn killed(is_other_boot: bool) -> Left {
    let place = Place::new("");
    let program = if is_other_boot { place.start_traced().await } else { place.start().await };
    let epoch = program.get("/v1/stats").await.1["epoch"].as_str().unwrap().to_owned();
    let mut head = 0;
    // So few that none of them is copied into the file yet.
    for index in 0..18 {
        head = program.publish_one(json!({"n": index, "fill": "x".repeat(index * 100)})).await;
    }
    program.kill().await;
    let dir = tempfile::tempdir().unwrap();
    copy(&place.data(), dir.path());
    let log = fs::read(log(dir.path())).unwrap();
    assert!(log.len() > 18 * FRAME);
    Left { dir, epoch, head, log }
}

impl Left {
    /// With a bit turned in the log; without the index beside it, as in a copy, if that is to be gone.
    fn damaged(&self, at: usize, bit: usize, has_index: bool) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        let mut damaged = self.log.clone();
        damaged[at] ^= 1 << bit;
        fs::write(log(dir.path()), damaged).unwrap();
        if !has_index {
            fs::remove_file(dir.path().join(format!("{FILE}-shm"))).unwrap();
        }
        dir
    }

    /// How often something was lost when one bit of the first `end` bytes had turned; and each time the epoch was another.
    async fn flips(&self, flips: usize, end: usize, has_index: bool, seed: u64) -> usize {
        let mut random = Random::new(seed);
        let mut losing = 0;
        for index in 0..flips {
            // Every other one in a head: of the log, or of a frame.
            let at = match index % 4 {
                0 => random.below(32),
                1 => 32 + random.below((end - 32) / FRAME) * FRAME + random.below(24),
                _ => random.below(end),
            };
            let bit = random.below(8);
            let dir = self.damaged(at, bit, has_index);
            let what = format!(
                "bit {bit} of byte {at}, {} of frame {}",
                (at.max(32) - 32) % FRAME,
                (at.max(32) - 32) / FRAME + 1
            );
            let kept = Kept::in_dir(dir.path()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            let lost = (1..=self.head).filter(|seq| !kept.events.contains_key(seq)).count();
            assert_eq!(lost > 0, kept.epoch != self.epoch, "{what}: {lost} are gone, head {}", kept.head);
            if lost > 0 {
                losing += 1;
                assert!(dir.path().join(format!("{FILE}-wal.damaged")).exists() || !has_index, "{what}: it was kept");
                let again = Kept::in_dir(dir.path()).await.unwrap();
                assert_eq!((again.epoch, again.head >= kept.head), (kept.epoch, true), "once is enough");
            }
        }
        losing
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_turned_in_the_log_written_ahead_gives_another_epoch() {
    let left = killed(false).await;
    assert!(left.flips(60, left.log.len(), true, 6).await > 50);
    // Untouched, it is as if nothing had happened.
    let kept = Kept::in_dir(left.dir.path()).await.unwrap();
    assert_eq!((kept.epoch, kept.head), (left.epoch, left.head));
}

#[tokio::test(flavor = "multi_thread")]
async fn also_in_a_copy_without_the_index() {
    // Of the very last frame nobody knows then that it was there.
    let left = killed(false).await;
    assert!(left.flips(40, left.log.len() - FRAME, false, 7).await > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn also_after_a_power_cut_and_of_the_last_transaction_it_is_known_that_it_was_acknowledged() {
    let left = killed(true).await;
    assert!(left.flips(40, left.log.len() - 4 * FRAME, false, 8).await > 30);
    let dir = left.damaged(left.log.len() - FRAME / 2, 0, false);
    let kept = Kept::in_dir(dir.path()).await.unwrap();
    // The log itself looks as if a power cut had torn it; the record beside it knows better.
    assert_eq!((kept.head, kept.next), (left.head - 1, Ok(left.head)));
    assert_ne!(kept.epoch, left.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_pages_of_a_damaged_log_over_newer_ones_of_the_file_are_not_written_to() {
    let left = killed(false).await;
    let mut random = Random::new(9);
    // The file as it is once everything was copied into it, with the log still there.
    let copied = tempfile::tempdir().unwrap();
    copy(left.dir.path(), copied.path());
    let whole = Kept::in_dir(copied.path()).await.unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        // Of a log whose first frame is damaged SQLite takes nothing, and then the file is as it was.
        let dir = left.damaged(32 + FRAME + random.below(left.log.len() - 32 - FRAME), 3, true);
        fs::copy(copied.path().join(FILE), dir.path().join(FILE)).unwrap();
        // Without the last of the log, what is in the file may be as it was before that; then it goes on under another epoch.
        if let Ok(kept) = Kept::in_dir(dir.path()).await {
            assert_ne!(kept.epoch, whole.epoch);
            continue;
        }
        refused += 1;
        for _ in 0..2 {
            let error = Kept::in_dir(dir.path()).await.err().expect("they do not go together");
            assert!(error.contains("-wal is damaged") || error.contains("malformed"), "{error}");
        }
        // Nothing was written, so whoever knows that the file is whole can go on without the log.
        fs::remove_file(log(dir.path())).unwrap();
        let kept = Kept::in_dir(dir.path()).await.unwrap();
        assert_eq!((kept.head, kept.next), (whole.head + 1, Ok(whole.head + 2)));
    }
    assert!(refused >= 10, "{refused}");
}
