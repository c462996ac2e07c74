//! Whether the log that SQLite wrote ahead has lost its end, looked at before SQLite opens it: SQLite takes what is whole,
//! from the start, and drops the rest without a word (<https://sqlite.org/fileformat2.html#the_write_ahead_log>). After a
//! power cut that is right. After damage it takes back what was acknowledged, and the seqs of that would be given again.
//!
//! Three witnesses, each of which proves that a transaction is gone that was committed:
//!
//! 1. The index beside the log (`-shm`) knows its last committed frame. It is written after a commit is synced, and it is the
//!    same log's if its salts are, so a log that ends before that frame has lost something. It is there and exact whenever a
//!    process ended and the system did not. A power cut may take it, or leave an older one, which says less, not more; only
//!    without full sync could it be ahead of the log, and then the epoch changes after a power cut anyway.
//! 2. After the end come frames of this log that end a transaction, at least two. With full sync a transaction is written once
//!    the one before is synced, so the first of them was, and is not there. Just one may be the last transaction, torn by a
//!    power cut: never acknowledged, and it says so ([`Tail::Torn`]). Unless the machine has been running since: what a process
//!    wrote is there in order, however it ended. (A transaction that failed for want of memory may leave such frames too;
//!    then the epoch changes for nothing, which costs the clients one fresh start.)
//! 3. Its head is not what it was, and frames follow. It is synced before the first frame is written, and so small that it is
//!    written whole.
//!
//! The first witness is gone once SQLite has opened the log, since it makes the index anew. So a log that has lost something is
//! copied before that, and while it is the same as its copy it is still that log.
//!
//! What no witness is left of here: the very last transaction, if its last
//! frame is damaged and the index is gone; and a log that is missing or was
//! cut off at a transaction's end. The `continuity` module finds those.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const SMALLEST_PAGE: usize = 512;
/// `WalIndexHdr` in SQLite's source; two copies of it begin the index.
const INDEX_HEAD: usize = 48;
/// Its version, the same for twenty years.
const INDEX_VERSION: u32 = 3_007_000;

/// What the end of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// There is no log, or it is too short for a single frame.
    Empty,
    /// The log ends with a whole transaction.
    Whole,
    /// After its end is one transaction that is not whole: torn by a power cut, unless there was none.
    Torn,
    /// What was committed is gone.
    Lost,
}

/// The log that goes with a database.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Looks at the log of a database that nobody has open.
pub(super) fn look(file: &Path) -> io::Result<Tail> {
    let log = match File::open(beside(file, "-wal")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail::Empty),
        Err(error) => return Err(error),
    };
    let length = log.metadata()?.len();
    let mut log = BufReader::with_capacity(1 << 16, log);
    let mut head = [0; HEAD];
    if length < (HEAD + FRAME_HEAD + SMALLEST_PAGE) as u64 {
        return Ok(Tail::Empty);
    }
    if is_kept(file, length)? {
        return Ok(Tail::Lost);
    }
    log.read_exact(&mut head)?;
    let Some(head) = Head::read(&head) else { return Ok(Tail::Lost) };
    if length < (HEAD + FRAME_HEAD + head.page) as u64 {
        return Ok(Tail::Empty);
    }
    let walked = walk(&head, &mut log)?;
    let index = fs::read(beside(file, "-shm")).ok().and_then(|bytes| committed(&bytes, &head.salts));
    Ok(match walked.commits_after {
        _ if index.is_some_and(|frame| frame > walked.end) => Tail::Lost,
        0 => Tail::Whole,
        // The index knows better: what follows its last frame was never committed.
        1 if index == Some(walked.end) => Tail::Whole,
        1 => Tail::Torn,
        _ => Tail::Lost,
    })
}

/// Writes the log again as it is, and syncs it. After a sync that failed, the system takes for written what the disk does not
/// have ("Can Applications Recover from fsync Failures?", USENIX ATC 2020): SQLite would read it, copy it into the file, and
/// count on the log, should the power be cut meanwhile.
pub(super) fn renew(file: &Path) -> io::Result<()> {
    let log = match File::options().read(true).write(true).open(beside(file, "-wal")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (mut at, mut bytes) = (0, vec![0; 1 << 16]);
    loop {
        let count = log.read_at(&mut bytes, at)?;
        if count == 0 {
            return log.sync_all();
        }
        log.write_all_at(&bytes[..count], at)?;
        at += count as u64;
    }
}

/// Puts a copy of a damaged log aside: SQLite is about to write over what it dropped.
pub(super) fn keep(file: &Path) {
    let (from, to) = (beside(file, "-wal"), beside(file, "-wal.damaged"));
    match fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all()) {
        Ok(()) => tracing::error!(copy = %to.display(), "the damaged log was kept"),
        Err(error) => tracing::error!(%error, "the damaged log cannot be kept"),
    }
}

/// Whether the log is the same as the damaged one that was put aside: nobody has written to it since.
fn is_kept(file: &Path, length: u64) -> io::Result<bool> {
    let kept = beside(file, "-wal.damaged");
    match fs::metadata(&kept) {
        Ok(metadata) if metadata.len() == length => Ok(fs::read(kept)? == fs::read(beside(file, "-wal"))?),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(false),
    }
}

struct Head {
    /// Byte order of the checksums.
    is_big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

impl Head {
    fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let magic = big(bytes, 0);
        let is_big_endian = magic & 1 == 1;
        let page = big(bytes, 8) as usize;
        if magic & !1 != 0x377f_0682 || !page.is_power_of_two() || !(SMALLEST_PAGE..=65_536).contains(&page) {
            return None;
        }
        let sum = checksum(is_big_endian, &bytes[..24], (0, 0));
        let salts = bytes[16..24].try_into().ok()?;
        (sum == (big(bytes, 24), big(bytes, 28))).then_some(Self { is_big_endian, page, salts, sum })
    }
}

struct Walked {
    /// The last frame of the last transaction that is whole; what SQLite takes.
    end: u32,
    /// Transactions of this log of which there is a last frame, after that.
    commits_after: u32,
}

fn walk(head: &Head, log: &mut impl Read) -> io::Result<Walked> {
    let mut frame = vec![0; FRAME_HEAD + head.page];
    let mut walked = Walked { end: 0, commits_after: 0 };
    let (mut sum, mut is_whole, mut number) = (head.sum, true, 0);
    loop {
        match log.read_exact(&mut frame) {
            Ok(()) => number += 1,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(walked),
            Err(error) => return Err(error),
        }
        let is_ours = frame[8..16] == head.salts;
        if is_whole {
            sum = checksum(head.is_big_endian, &frame[..8], sum);
            sum = checksum(head.is_big_endian, &frame[FRAME_HEAD..], sum);
            is_whole = is_ours && big(&frame, 0) != 0 && sum == (big(&frame, 16), big(&frame, 20));
        }
        let is_commit = big(&frame, 4) != 0;
        match is_whole {
            true if is_commit => walked.end = number,
            false if is_commit && is_ours => walked.commits_after += 1,
            _ => {}
        }
    }
}

/// The last committed frame, as the index says; none if it is not this log's, or not whole.
fn committed(index: &[u8], salts: &[u8; 8]) -> Option<u32> {
    let (first, second) = (index.get(..INDEX_HEAD)?, index.get(INDEX_HEAD..2 * INDEX_HEAD)?);
    let native = |at: usize| first[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
    let is_whole = first == second
        && native(0)? == INDEX_VERSION
        && first[12] != 0
        && checksum(cfg!(target_endian = "big"), &first[..40], (0, 0)) == (native(40)?, native(44)?);
    (is_whole && first[32..40] == *salts).then(|| native(16)).flatten()
}

fn big(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// SQLite's: over 32-bit words, two at a time.
fn checksum(is_big_endian: bool, bytes: &[u8], (mut first, mut second): (u32, u32)) -> (u32, u32) {
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    let word = |bytes: [u8; 4]| if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    for [one, other] in pairs {
        first = first.wrapping_add(word(*one)).wrapping_add(second);
        second = second.wrapping_add(word(*other)).wrapping_add(first);
    }
    (first, second)
}
