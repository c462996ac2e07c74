//! Asked ∧ granted: the one place that decides what a plugin may do. A plugin asks in its description, the operator
//! grants in the file beside it; the host interfaces ask here and answer the guest with what is said here.

use super::manifest;
use crate::event::Glob;

/// What a plugin asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// To publish.
    pub publish: bool,
    /// The types that it says it emits.
    pub emits: Vec<Glob>,
    /// To use its own namespace.
    pub kv: bool,
    /// To read its settings.
    pub config: bool,
}

impl Asked {
    /// The names of what it asks for, as the contract has them.
    pub fn capabilities(&self) -> Vec<&'static str> {
        let names = [(self.publish, "publish"), (self.kv, "kv"), (self.config, "config")];
        names.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect()
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
    NotAsked(&'static str),
    /// `emits` does not list the type.
    #[error("denied: the type is not among those that the plugin's description says it emits")]
    NotDeclared,
    /// The operator does not grant it.
    #[error("denied: the operator does not grant `{0}`")]
    NotGranted(&'static str),
}

impl Grants {
    /// What `asked` and `operator` both allow.
    pub fn decide(asked: Asked, operator: Option<manifest::Grants>) -> Self {
        Self { asked, operator }
    }

    /// Nothing, as while a plugin is loaded.
    pub fn none() -> Self {
        Self::default()
    }

    /// What the plugin asked for.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Whether it may publish an event of this type.
    ///
    /// # Errors
    /// Why not.
    pub fn publish(&self, event_type: &str) -> Result<(), Denied> {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(event_type));
        match &self.operator {
            _ if !self.asked.publish => Err(Denied::NotAsked("publish")),
            _ if !any(&self.asked.emits) => Err(Denied::NotDeclared),
            Some(granted) if !any(&granted.publish) => Err(Denied::NotGranted("publish")),
            _ => Ok(()),
        }
    }

    /// Whether it may use its namespace.
    ///
    /// # Errors
    /// Why not.
    pub fn kv(&self) -> Result<(), Denied> {
        match &self.operator {
            _ if !self.asked.kv => Err(Denied::NotAsked("kv")),
            Some(granted) if !granted.kv => Err(Denied::NotGranted("kv")),
            _ => Ok(()),
        }
    }

    /// Whether it may read the setting `key`.
    ///
    /// # Errors
    /// Why not.
    pub fn config(&self, key: &str) -> Result<(), Denied> {
        match &self.operator {
            _ if !self.asked.config => Err(Denied::NotAsked("config")),
            Some(granted) if !granted.config.iter().any(|glob| glob.matches(key)) => Err(Denied::NotGranted("config")),
            _ => Ok(()),
        }
    }

    /// The names of the capabilities that it has, in whole or in part.
    pub fn capabilities(&self) -> Vec<&'static str> {
        let granted = |name: &&str| match (&self.operator, *name) {
            (None, _) => true,
            (Some(granted), "publish") => !granted.publish.is_empty(),
            (Some(granted), "kv") => granted.kv,
            (Some(granted), _) => !granted.config.is_empty(),
        };
        self.asked.capabilities().into_iter().filter(granted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn asked(emits: &[&str]) -> Asked {
        Asked { publish: true, emits: globs(emits), kv: true, config: true }
    }

    fn granted(publish: &[&str], kv: bool, config: &[&str]) -> Option<manifest::Grants> {
        Some(manifest::Grants { publish: globs(publish), kv, config: globs(config) })
    }

    #[track_caller]
    fn check(grants: &Grants, publish: Result<(), Denied>, kv: Result<(), Denied>, config: Result<(), Denied>) {
        assert_eq!((grants.publish("task.done"), grants.kv(), grants.config("limit")), (publish, kv, config));
    }

    #[test]
    fn what_was_not_asked_for_is_denied_whatever_is_granted() {
        let denied = |name| Err(Denied::NotAsked(name));
        check(&Grants::none(), denied("publish"), denied("kv"), denied("config"));
        let grants = Grants::decide(Asked::default(), granted(&["*"], true, &["*"]));
        check(&grants, denied("publish"), denied("kv"), denied("config"));
    }

    #[test]
    fn without_a_word_of_the_operator_a_plugin_has_its_own_and_what_it_declares() {
        check(&Grants::decide(asked(&["task.*"]), None), Ok(()), Ok(()), Ok(()));
        check(&Grants::decide(asked(&["other"]), None), Err(Denied::NotDeclared), Ok(()), Ok(()));
        assert_eq!(Grants::decide(asked(&[]), None).capabilities(), ["publish", "kv", "config"]);
    }

    #[test]
    fn with_grants_only_what_is_listed() {
        let denied = |name| Err(Denied::NotGranted(name));
        let none = Grants::decide(asked(&["*"]), granted(&[], false, &[]));
        check(&none, denied("publish"), denied("kv"), denied("config"));
        assert!(none.capabilities().is_empty());
        check(&Grants::decide(asked(&["*"]), granted(&["task.done"], true, &["limit"])), Ok(()), Ok(()), Ok(()));
        check(&Grants::decide(asked(&["*"]), granted(&["task.*"], true, &["*"])), Ok(()), Ok(()), Ok(()));
        check(
            &Grants::decide(asked(&["x"]), granted(&["*"], true, &["li"])),
            Err(Denied::NotDeclared),
            Ok(()),
            denied("config"),
        );
    }
}
