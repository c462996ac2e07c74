//! Lines for whoever runs the hub. Needs no asking; the host adds plugin, version and event. A line is cut at 4 KiB, more than
//! 100 a second are dropped and counted.
//!
//! ```no_run
//! use busway_plugin::log;
//!
//! let (id, ms) = ("t-1", 1250);
//! log::info!("task {id} took {ms} ms");
//! ```

use crate::host::logging as host;

pub use crate::bindings::handler::busway::plugin::logging::Level;
#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// Writes one line. The macros of this module format as [`format!`] does.
pub fn log(level: Level, message: &str) {
    host::log(level, message);
}

/// Every step; normally off.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Trace, &::std::format!($($arg)+)) };
}

/// For whoever looks for a fault.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Debug, &::std::format!($($arg)+)) };
}

/// Normal operation.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Info, &::std::format!($($arg)+)) };
}

/// Unexpected, but handled.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Warn, &::std::format!($($arg)+)) };
}

/// Something was lost or must be mended.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Error, &::std::format!($($arg)+)) };
}
