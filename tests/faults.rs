//! The journal on a disk that fails: full, unable to sync, cut off from its power, with bits that turned. The real program runs
//! on `fixtures/faultfs.c`; what it did to its directory is rebuilt as a disk would hold it, and opened again.

mod backup;
mod continuity;
mod cut;
mod disk;
mod flips;
mod inspect;
mod kept;
mod lock;
mod moved;
pub mod program;
pub mod random;
mod space;
mod trace;
mod wal;
