//! Asked ∧ granted: the one place that decides what a plugin may do. A plugin asks in its description and by what it imports, the
//! operator grants in the file beside it; the host interfaces ask here and answer the guest with what is said here.

use super::manifest;
use crate::event::Glob;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

/// What a plugin may be allowed to do. A new one is a line here; the compiler lists the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// To publish, type by type.
    Publish,
    /// To use its own namespace.
    Kv,
    /// To read its settings, key by key.
    Config,
    /// To write lines into the log. Without it they are dropped.
    Log,
    /// To know the time. Without it the clocks stand still.
    Clock,
    /// To have random numbers. Without it they are the same in each instance.
    Random,
}

impl Capability {
    /// All of them, as they are listed.
    pub const ALL: &[Self] = &[Self::Publish, Self::Kv, Self::Config, Self::Log, Self::Clock, Self::Random];

    /// As in the contract, a sidecar and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Kv => "kv",
            Self::Config => "config",
            Self::Log => "log",
            Self::Clock => "clock",
            Self::Random => "random",
        }
    }

    /// Whether a description has to ask for it. The others are asked for by an import, and granted unless the operator says no:
    /// runtimes of languages import all of them and use what they like, so a plugin cannot know, and being without never
    /// ends a call.
    fn is_described(self) -> bool {
        match self {
            Self::Publish | Self::Kv | Self::Config => true,
            Self::Log | Self::Clock | Self::Random => false,
        }
    }

    /// The one that a description asks for by this name.
    pub(super) fn described(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|capability| capability.is_described() && capability.as_str() == name)
    }

    /// The one that this import asks for.
    pub(super) fn imported(interface: &str) -> Option<Self> {
        let interfaces =
            [("busway:plugin/logging@", Self::Log), ("wasi:clocks/", Self::Clock), ("wasi:random/", Self::Random)];
        interfaces.into_iter().find(|(prefix, _)| interface.starts_with(prefix)).map(|(_, capability)| capability)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a plugin asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// What it wants to do.
    pub capabilities: BTreeSet<Capability>,
    /// The types that it says it emits.
    pub emits: Vec<Glob>,
}

impl Asked {
    /// The names of what it asks for, as the contract has them.
    pub fn names(&self) -> Vec<&'static str> {
        self.capabilities.iter().map(|capability| capability.as_str()).collect()
    }

    /// What it asks for that `before` did not; none if that is nothing.
    pub fn beyond(&self, before: &Self) -> Option<Beyond> {
        // Most updates emit what the version before emitted.
        let same: HashSet<_> = before.emits.iter().collect();
        let is_new = |glob: &&Glob| !same.contains(glob) && !before.emits.iter().any(|known| known.covers(glob));
        let capabilities: Vec<_> = self.capabilities.difference(&before.capabilities).copied().collect();
        let emits: Vec<_> = self.emits.iter().filter(is_new).cloned().collect();
        (!capabilities.is_empty() || !emits.is_empty()).then_some(Beyond { capabilities, emits })
    }
}

/// What one version asks for and the one before did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beyond {
    /// To do.
    pub capabilities: Vec<Capability>,
    /// To emit; globs that no single one of those before covers.
    pub emits: Vec<Glob>,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = self.capabilities.iter().map(ToString::to_string);
        let emits = self.emits.iter().map(|glob| format!("to emit {:?}", glob.as_str()));
        f.write_str(&capabilities.chain(emits).collect::<Vec<_>>().join(", "))
    }
}

/// What a plugin may do.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    asked: Asked,
    /// None: the operator said nothing, and everything that reaches no further than the plugin itself is granted, and
    /// the types that it declares.
    operator: Option<manifest::Grants>,
}

/// Why something is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The description does not list the capability.
    #[error("denied: the plugin's description does not ask for `{0}`")]
    NotAsked(Capability),
    /// `emits` does not list the type.
    #[error("denied: the type is not among those that the plugin's description says it emits")]
    NotDeclared,
    /// The operator does not grant it.
    #[error("denied: the operator does not grant `{0}`")]
    NotGranted(Capability),
}

impl Grants {
    /// What `asked` and `operator` both allow.
    pub fn decide(asked: Asked, operator: Option<manifest::Grants>) -> Self {
        Self { asked, operator }
    }

    /// While a plugin is loaded: only what needs not be asked for.
    pub fn while_loading(operator: Option<manifest::Grants>) -> Self {
        Self::decide(Asked::default(), operator)
    }

    /// Whether it has the capability, in whole or in part.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, capability: Capability) -> Result<(), Denied> {
        if capability.is_described() && !self.asked.capabilities.contains(&capability) {
            return Err(Denied::NotAsked(capability));
        }
        if self.is_granted(capability) { Ok(()) } else { Err(Denied::NotGranted(capability)) }
    }

    fn is_granted(&self, capability: Capability) -> bool {
        let Some(granted) = &self.operator else { return true };
        match capability {
            Capability::Publish => !granted.publish.is_empty(),
            Capability::Kv => granted.kv,
            Capability::Config => !granted.config.is_empty(),
            Capability::Log => granted.log,
            Capability::Clock => granted.clock,
            Capability::Random => granted.random,
        }
    }

    /// Whether it may publish an event of this type.
    ///
    /// # Errors
    /// Why not.
    pub fn publish(&self, event_type: &str) -> Result<(), Denied> {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(event_type));
        match &self.operator {
            _ if !self.asked.capabilities.contains(&Capability::Publish) => Err(Denied::NotAsked(Capability::Publish)),
            _ if !any(&self.asked.emits) => Err(Denied::NotDeclared),
            Some(granted) if !any(&granted.publish) => Err(Denied::NotGranted(Capability::Publish)),
            _ => Ok(()),
        }
    }

    /// Whether it may read the setting `key`.
    ///
    /// # Errors
    /// Why not.
    pub fn config(&self, key: &str) -> Result<(), Denied> {
        self.allows(Capability::Config)?;
        match &self.operator {
            Some(granted) if !granted.config.iter().any(|glob| glob.matches(key)) => {
                Err(Denied::NotGranted(Capability::Config))
            }
            _ => Ok(()),
        }
    }

    /// The names of the capabilities that it asked for and has, in whole or in part.
    pub fn names(&self) -> Vec<&'static str> {
        let granted = self.asked.capabilities.iter().filter(|capability| self.is_granted(**capability));
        granted.map(|capability| capability.as_str()).collect()
    }

    /// What it asked for and runs without, each in words.
    pub fn lacks(&self) -> Vec<String> {
        let denied = self.asked.capabilities.iter().filter(|capability| !self.is_granted(**capability));
        let mut lacks: Vec<_> = denied
            .map(|capability| format!("asks for `{capability}`, which the operator does not grant: it runs without"))
            .collect();
        if let Some(granted) = self.operator.as_ref().filter(|granted| !granted.publish.is_empty()) {
            let covered = |glob: &Glob| granted.publish.iter().any(|known| known.covers(glob));
            lacks.extend(self.asked.emits.iter().filter(|glob| !covered(glob)).map(|glob| {
                format!("says that it emits {:?}, which the operator does not grant in whole", glob.as_str())
            }));
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{Clock, Config, Kv, Log, Publish, Random};

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn asked(emits: &[&str]) -> Asked {
        Asked { capabilities: Capability::ALL.iter().copied().collect(), emits: globs(emits) }
    }

    fn granted(publish: &[&str], kv: bool, config: &[&str]) -> Option<manifest::Grants> {
        Some(manifest::Grants { publish: globs(publish), kv, config: globs(config), ..manifest::Grants::default() })
    }

    #[track_caller]
    fn check(grants: &Grants, publish: Result<(), Denied>, kv: Result<(), Denied>, config: Result<(), Denied>) {
        assert_eq!((grants.publish("task.done"), grants.allows(Kv), grants.config("limit")), (publish, kv, config));
    }

    #[test]
    fn what_was_not_asked_for_is_denied_whatever_is_granted() {
        let denied = |capability| Err(Denied::NotAsked(capability));
        check(&Grants::while_loading(None), denied(Publish), denied(Kv), denied(Config));
        let grants = Grants::decide(Asked::default(), granted(&["*"], true, &["*"]));
        check(&grants, denied(Publish), denied(Kv), denied(Config));
    }

    #[test]
    fn without_a_word_of_the_operator_a_plugin_has_its_own_and_what_it_declares() {
        check(&Grants::decide(asked(&["task.*"]), None), Ok(()), Ok(()), Ok(()));
        check(&Grants::decide(asked(&["other"]), None), Err(Denied::NotDeclared), Ok(()), Ok(()));
        let all = ["publish", "kv", "config", "log", "clock", "random"];
        let grants = Grants::decide(asked(&[]), None);
        assert_eq!((grants.names(), grants.lacks()), (all.to_vec(), vec![]));
    }

    #[test]
    fn with_grants_only_what_is_listed() {
        let denied = |capability| Err(Denied::NotGranted(capability));
        let none = Grants::decide(asked(&["*"]), granted(&[], false, &[]));
        check(&none, denied(Publish), denied(Kv), denied(Config));
        assert_eq!(none.names(), ["log", "clock", "random"]);
        check(&Grants::decide(asked(&["*"]), granted(&["task.done"], true, &["limit"])), Ok(()), Ok(()), Ok(()));
        check(&Grants::decide(asked(&["*"]), granted(&["task.*"], true, &["*"])), Ok(()), Ok(()), Ok(()));
        check(
            &Grants::decide(asked(&["x"]), granted(&["*"], true, &["li"])),
            Err(Denied::NotDeclared),
            Ok(()),
            denied(Config),
        );
    }

    #[test]
    fn the_log_the_clock_and_random_numbers_are_there_unless_the_operator_says_no() {
        for capability in [Log, Clock, Random] {
            assert_eq!(Grants::while_loading(None).allows(capability), Ok(()));
            assert_eq!(Grants::decide(Asked::default(), granted(&[], false, &[])).allows(capability), Ok(()));
        }
        let no = manifest::Grants { log: false, clock: false, random: false, ..manifest::Grants::default() };
        for grants in [Grants::while_loading(Some(no.clone())), Grants::decide(asked(&[]), Some(no))] {
            for capability in [Log, Clock, Random] {
                assert_eq!(grants.allows(capability), Err(Denied::NotGranted(capability)));
            }
        }
    }

    #[test]
    fn what_it_lacks_is_said() {
        let grants = Grants::decide(asked(&["task.*", "alert.*"]), granted(&["task.*"], false, &["*"]));
        let [kv, alert] = &grants.lacks()[..] else { panic!("{:?}", grants.lacks()) };
        assert!(kv.contains("asks for `kv`") && alert.contains("emits \"alert.*\""), "{kv} {alert}");
    }

    #[test]
    fn what_a_version_asks_beyond_the_one_before_is_told() {
        let before = Asked { capabilities: [Publish, Log].into(), emits: globs(&["task.*"]) };
        assert_eq!(before.beyond(&before), None);
        let less = Asked { capabilities: [Publish].into(), emits: globs(&["task.done", "task.a*"]) };
        assert_eq!(less.beyond(&before), None);
        let more = Asked { capabilities: [Publish, Kv].into(), emits: globs(&["task.x", "tas*", "alert"]) };
        let beyond = more.beyond(&before).unwrap();
        assert_eq!(beyond, Beyond { capabilities: vec![Kv], emits: globs(&["tas*", "alert"]) });
        assert_eq!(beyond.to_string(), "kv, to emit \"tas*\", to emit \"alert\"");
    }

    #[test]
    fn imports_ask_too() {
        let asks = ["busway:plugin/logging@0.1.0", "wasi:clocks/wall-clock@0.2.6", "wasi:random/insecure@0.2.0"];
        assert_eq!(asks.map(Capability::imported), [Some(Log), Some(Clock), Some(Random)]);
        assert_eq!(["wasi:io/poll@0.2.0", "busway:plugin/kv@0.1.0"].map(Capability::imported), [None, None]);
        assert_eq!(["kv", "log"].map(Capability::described), [Some(Kv), None]);
    }
}
