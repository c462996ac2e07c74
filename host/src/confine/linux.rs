//! Confining on Linux. Landlock is asked for what was tried out ([`TRIED`]) and no more: a right that it learns later to withhold could be
//! one that the hub needs.

use super::{ConfineError, Holds, Landlock, Needs, own};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{io, path::Path};

/// The newest version whose rules the hub was run under.
const TRIED: ABI = ABI::V7;
/// What `required` means: rules on files, renaming and truncating included, and on TCP.
const REQUIRED: ABI = ABI::V4;

pub(super) fn confine(landlock: Landlock, needs: &Needs) -> Result<Holds, ConfineError> {
    refuse_core_dumps()?;
    rustix::thread::set_no_new_privs(true).map_err(|error| system("new privileges", error))?;
    if landlock == Landlock::Off {
        return Ok(Holds::Off);
    }
    let status = restrict(landlock == Landlock::Required, needs)?;
    Ok(match status.landlock {
        // Newer than the rules that were asked for is not more than they are.
        LandlockStatus::Available { effective_abi, .. } => Holds::Abi(effective_abi.min(TRIED) as u32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Holds::Nothing,
    })
}

/// What is in memory may be secret: events, and what plugins keep. `PR_SET_DUMPABLE` would do it too, and close the memory to debuggers,
/// but takes `/proc/self/pagemap` away from whoever is not root, by which wasmtime finds the pages to clear; and it ends at exec.
fn refuse_core_dumps() -> Result<(), ConfineError> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| system("core dumps", error))?;
    // A program that takes dumps from a pipe need not keep to the limit. It gets no memory; where this cannot be said, the limit stands.
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
    Ok(())
}

fn system(what: &'static str, error: rustix::io::Errno) -> ConfineError {
    ConfineError::System { what, error: error.into() }
}

fn restrict(required: bool, needs: &Needs) -> Result<RestrictionStatus, ConfineError> {
    let mut rules = ruleset(required)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in own::SYSTEM {
        rules = allow_if_there(rules, Path::new(path), read)?;
    }
    for path in own::files() {
        rules = allow_if_there(rules, &path, AccessFs::ReadFile | AccessFs::Execute)?;
    }
    rules = allow_if_there(rules, Path::new(own::NULL), AccessFs::ReadFile | AccessFs::WriteFile)?;
    for path in &needs.read {
        rules = allow(rules, path, read)?;
    }
    for path in &needs.write {
        rules = allow(rules, path, read | writing())?;
    }
    for path in &needs.rename {
        rules = allow(rules, path, read | AccessFs::RemoveFile | AccessFs::MakeReg)?;
    }
    // For port 0 Landlock means by this the ports that the system chooses from, and no other.
    rules = rules.add_rule(NetPort::new(needs.listen, AccessNet::BindTcp)).map_err(rejected)?;
    rules.restrict_self().map_err(rejected)
}

/// Everything that is to be closed, still without an exception.
fn ruleset(required: bool) -> Result<RulesetCreated, ConfineError> {
    let level = if required { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
    let lacking = |error: RulesetError| ConfineError::Lacking(error.to_string());
    Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(REQUIRED))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp))
        .map_err(lacking)?
        // Devices, signals and abstract sockets of others: nice to have.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))
        .and_then(|rules| rules.scope(Scope::from_all(TRIED)))
        .and_then(Ruleset::create)
        .map_err(rejected)
}

/// Regular files and directories: no devices, no pipes, no sockets, and no links, which could lead somewhere else.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, ConfineError> {
    let needed = |error| ConfineError::Needed { path: path.to_owned(), error };
    let dir = std::fs::metadata(path).map_err(needed)?.is_dir();
    let opened = PathFd::new(path).map_err(|error| needed(io::Error::other(error)))?;
    let mut access = access.into();
    if !dir {
        access &= AccessFs::from_file(TRIED);
    }
    rules.add_rule(PathBeneath::new(opened, access)).map_err(rejected)
}

/// Not every system has everything, and what is not there, or closed to this user, is not needed.
fn allow_if_there(
    rules: RulesetCreated,
    path: &Path,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, ConfineError> {
    let there = match std::fs::metadata(path) {
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied),
        Ok(_) => true,
    };
    if there { allow(rules, path, access) } else { Ok(rules) }
}

fn rejected(error: RulesetError) -> ConfineError {
    ConfineError::Rules(error.to_string())
}
