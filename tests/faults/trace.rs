//! What a disk holds after a power cut, rebuilt from a trace of what was done to it (`fixtures/faultfs.c`).
//!
//! Files are made and removed in order and at once, as file systems with a journal do. What was written to a file and synced
//! is there. What was written since is there or not, in any order, and one such write may have stopped at a sector. What a sync
//! failed to write is nowhere but in the memory of the system, which takes it for written: the program reads it, and the next
//! sync has nothing to do.

use super::{program::as_if_never_copied, random::Random};
use std::{collections::BTreeMap, fs, ops::Range, path::Path};

const HEAD: usize = 15;
const SECTOR: usize = 512;

pub struct Trace {
    bytes: Vec<u8>,
    pub records: Vec<Record>,
}

pub struct Record {
    op: u8,
    name: String,
    offset: u64,
    data: Range<usize>,
    /// Where it ends in the trace.
    pub end: usize,
}

impl Trace {
    /// A process that was killed may have been in the middle of a record; the next one must not go on behind that.
    pub fn drop_torn(file: &Path) {
        let Ok(bytes) = fs::read(file) else { return };
        let (mut at, mut end) = (0, 0);
        while let Some((_, data)) = ranges(&bytes, at) {
            (at, end) = (data.end, data.end);
        }
        fs::File::options().write(true).open(file).unwrap().set_len(end as u64).unwrap();
    }

    pub fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some((name, data)) = ranges(&bytes, at) {
            records.push(Record {
                op: bytes[at],
                name: String::from_utf8(bytes[name].to_vec()).unwrap(),
                offset: u64::from_ne_bytes(bytes[at + 3..at + 11].try_into().unwrap()),
                data: data.clone(),
                end: data.end,
            });
            at = data.end;
        }
        Self { bytes, records }
    }

    pub fn syncs(&self, name: &str) -> usize {
        self.records.iter().filter(|record| record.op == b'S' && record.name == name).count()
    }
}

/// Where the record that begins there has its name and its data; none if it is not whole.
fn ranges(bytes: &[u8], at: usize) -> Option<(Range<usize>, Range<usize>)> {
    let head = bytes.get(at..at + HEAD)?;
    let length = usize::from(u16::from_ne_bytes(head[1..3].try_into().unwrap()));
    let count = u32::from_ne_bytes(head[11..15].try_into().unwrap()) as usize;
    let name = at + HEAD..at + HEAD + length;
    let data = name.end..name.end + count;
    (data.end <= bytes.len()).then_some((name, data))
}

/// The files of the directory, and what of them is not synced.
pub struct Disk<'a> {
    trace: &'a Trace,
    done: usize,
    files: BTreeMap<&'a str, File<'a>>,
}

#[derive(Default)]
struct File<'a> {
    synced: Vec<u8>,
    since: Vec<&'a Record>,
}

impl<'a> Disk<'a> {
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, done: 0, files: BTreeMap::new() }
    }

    /// Goes on to where `count` records are done.
    pub fn advance(&mut self, count: usize) {
        for record in &self.trace.records[self.done..count] {
            let file = self.files.entry(&record.name);
            match record.op {
                b'C' | b'W' | b'T' => file.or_default().since.push(record),
                b'S' => {
                    let file = file.or_default();
                    for record in std::mem::take(&mut file.since) {
                        apply(&mut file.synced, record, self.trace.bytes[record.data.clone()].len(), self.trace);
                    }
                }
                b'F' => file.or_default().since.clear(),
                b'U' => drop(self.files.remove(&*record.name)),
                // To the name that the data is.
                b'R' => {
                    let to = std::str::from_utf8(&self.trace.bytes[record.data.clone()]).unwrap();
                    if let Some(file) = self.files.remove(&*record.name) {
                        self.files.insert(to, file);
                    }
                }
                op => panic!("{op}"),
            }
        }
        self.done = count;
    }

    /// Writes what is there after a power cut now.
    pub fn cut(&self, random: &mut Random, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for (name, file) in self.files.iter().filter(|(name, _)| !name.is_empty() && !name.ends_with("-shm")) {
            let mut content = file.synced.clone();
            // From nothing to everything of what was written since.
            let luck = random.below(5);
            for epoch in file.since.split_inclusive(|record| record.op == b'T') {
                let (writes, truncate) = match epoch.split_last() {
                    Some((last, writes)) if last.op == b'T' => (writes, Some(*last)),
                    _ => (epoch, None),
                };
                let mut writes: Vec<_> = writes.iter().filter(|_| random.below(4) < luck).collect();
                random.shuffle(&mut writes);
                let torn = random.below(writes.len() * 2);
                for (index, record) in writes.into_iter().enumerate() {
                    let length = record.data.len();
                    let length = if index == torn { random.below(length / SECTOR + 1) * SECTOR } else { length };
                    apply(&mut content, record, length, self.trace);
                }
                if let Some(truncate) = truncate.filter(|_| random.below(2) == 0) {
                    apply(&mut content, truncate, 0, self.trace);
                }
            }
            fs::write(dir.join(name), content).unwrap();
        }
        as_if_never_copied(dir);
    }
}

fn apply(content: &mut Vec<u8>, record: &Record, length: usize, trace: &Trace) {
    let offset = record.offset as usize;
    match record.op {
        b'W' if length > 0 => {
            content.resize(content.len().max(offset + length), 0);
            content[offset..offset + length].copy_from_slice(&trace.bytes[record.data.clone()][..length]);
        }
        b'T' => content.resize(offset, 0),
        _ => {}
    }
}
