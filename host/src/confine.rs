//! The second wall, behind the WebAssembly sandbox: whoever gets out of a plugin, or into the hub by a request, finds a process that
//! can do little. It gives up what the hub never needs, for good and for everything that it starts: new privileges, core dumps, and
//! with Landlock every file and every TCP connection but its own. The only module that knows of prctl and Landlock.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod own;

use serde::{Deserialize, Serialize};
use std::{fmt, io, path::PathBuf};

/// The section `[confine]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfineConfig {
    /// Whether the kernel's Landlock closes files and TCP to the process.
    pub landlock: Landlock,
}

/// How much depends on Landlock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// As much of it as the kernel has, be it nothing.
    #[default]
    BestEffort,
    /// No start without its rules on files and on TCP.
    Required,
    /// Not at all.
    Off,
}

/// What the process must still be able to do, besides running its own program again.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Directories below which it reads. All must be there.
    pub read: Vec<PathBuf>,
    /// Directories below which it reads and writes. All must be there.
    pub write: Vec<PathBuf>,
    /// Directories in which it moves files, one over another, and writes to none. All must be there.
    pub rename: Vec<PathBuf>,
    /// The only TCP port that it opens; 0 stands for any that the system chooses.
    pub listen: u16,
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A directory that it needs cannot be opened.
    #[error("cannot open {}: {error}", .path.display())]
    Needed {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system did not take away what it was asked to.
    #[error("cannot give up {what}: {error}")]
    System {
        /// What was to be given up.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The kernel does not have what is required.
    #[error(
        "confine.landlock is \"required\": expected a kernel with Landlock's rules on files and TCP (ABI 4, Linux 6.7, \
         and `landlock` in /sys/kernel/security/lsm), found one that does not have them: {0}"
    )]
    Lacking(String),
    /// The kernel has Landlock and refused the rules.
    #[error("Landlock did not take the rules: {0}")]
    Rules(String),
}

/// What holds from now on, to be said to the operator.
#[derive(Debug, Clone)]
pub struct Confined {
    landlock: Holds,
    needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Not wanted.
    Off,
    /// Wanted, but the kernel does not have it.
    Nothing,
    /// The rules of this version of Landlock.
    Abi(u32),
}

/// Confines the calling thread, and with it whatever it starts later: threads that are there already are not. So call it first.
///
/// # Errors
/// If a directory that is needed cannot be opened, or the kernel lacks what is required. Then the process may be confined in part.
pub fn confine(config: &ConfineConfig, needs: Needs) -> Result<Confined, ConfineError> {
    #[cfg(target_os = "linux")]
    let landlock = linux::confine(config.landlock, &needs)?;
    #[cfg(not(target_os = "linux"))]
    let landlock = match config.landlock {
        Landlock::Required => return Err(ConfineError::Lacking("this system is not Linux".to_owned())),
        Landlock::BestEffort => Holds::Nothing,
        Landlock::Off => Holds::Off,
    };
    Ok(Confined { landlock, needs })
}

impl Confined {
    /// Whether less holds than was wished for.
    pub fn is_lacking(&self) -> bool {
        self.landlock == Holds::Nothing
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(target_os = "linux") {
            write!(f, "no new privileges, no core dumps; ")?;
        }
        match self.landlock {
            Holds::Off => write!(f, "landlock off: files and connections are not closed to it"),
            Holds::Nothing => {
                write!(f, "this kernel has no landlock: files and connections are not closed to it")
            }
            Holds::Abi(abi) => {
                let Needs { read, write, rename, listen } = &self.needs;
                write!(f, "landlock ABI {abi}: reads below {}, writes below {}", List(read), List(write))?;
                if !rename.is_empty() {
                    write!(f, ", moves files in {}", List(rename))?;
                }
                match (abi, listen) {
                    (..4, _) => write!(f, ", TCP is not closed to it")?,
                    (_, 0) => write!(f, ", connects nowhere")?,
                    (_, port) => write!(f, ", connects nowhere, listens on port {port} only")?,
                }
                if abi >= 6 { write!(f, ", signals nobody else") } else { Ok(()) }
            }
        }
    }
}

struct List<'a>(&'a [PathBuf]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "nothing");
        }
        for (index, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { " and " } else { "" }, path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_said_and_no_more() {
        let needs = Needs { read: vec!["/p".into()], write: Vec::new(), rename: vec!["/m".into()], listen: 8787 };
        let said = |landlock| Confined { landlock, needs: needs.clone() }.to_string();
        assert!(
            said(Holds::Abi(3))
                .ends_with("reads below /p, writes below nothing, moves files in /m, TCP is not closed to it")
        );
        assert!(said(Holds::Abi(4)).ends_with("connects nowhere, listens on port 8787 only"));
        assert!(said(Holds::Abi(7)).ends_with("signals nobody else"));
        assert!(said(Holds::Nothing).contains("has no landlock"));
    }
}
