//! The configuration file: sections that the modules own, put together. Reads text and says everything that is wrong with it
//! at once, each with its line. Knows no module's meaning of a key, and reads no environment.

use crate::{
    bus::BusConfig, confine::ConfineConfig, http::HttpConfig, journal::JournalConfig, log::LogConfig,
    plugin::registry::PluginsConfig, seconds::Seconds, ws::WebSocketConfig,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IntoDeserializer};
use std::{fmt, ops::Range, path::PathBuf};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// All of it. Every key has a default, so an empty text, or no file, is a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Config {
    /// `[http]`
    pub http: HttpConfig,
    /// `[websocket]`
    pub websocket: WebSocketConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[journal]`
    pub journal: JournalConfig,
    /// `[bus]`
    pub bus: BusConfig,
    /// `[plugins]`
    pub plugins: PluginsConfig,
    /// `[[admission]]`: filters that every event from outside must pass, in this order.
    pub admission: Vec<AdmissionConfig>,
    /// `[shutdown]`
    pub shutdown: ShutdownConfig,
    /// `[confine]`
    pub confine: ConfineConfig,
}

/// A filter plugin at the hub's door.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionConfig {
    /// The plugin's name. An event is refused while it is not there.
    pub filter: String,
    /// Its parameters.
    #[serde(default)]
    pub params: Option<serde_json::Value>,
}

/// How the hub stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// Handlers that have not finished after this are given up; in seconds.
    pub drain_timeout_s: Seconds,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { drain_timeout_s: Seconds::new(10) }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// `section.key`; empty where the text is not TOML.
    pub key: String,
    /// What was expected and found.
    pub message: String,
}

/// Everything that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// In the order of the file; never none.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { line, key, message }) in self.mistakes.iter().enumerate() {
            let (newline, colon) = (if index > 0 { "\n" } else { "" }, if key.is_empty() { "" } else { ": " });
            write!(f, "{newline}line {line}: {key}{colon}{message}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Where compiled plugins are kept: what is set, else beside the journal; empty if there is none.
    pub fn compile_cache(&self) -> PathBuf {
        match (&self.plugins.cache, &self.journal) {
            (set, _) if !set.as_os_str().is_empty() => set.clone(),
            (_, journal) if journal.memory => PathBuf::new(),
            (_, journal) => journal.dir.join("cache"),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { text, mistakes: Vec::new() };
        for error in errors {
            reader.mistake(error.span().unwrap_or_default(), String::new(), error.message());
        }
        let mut config = Self::default();
        if reader.mistakes.is_empty() {
            for (name, value) in table.into_inner() {
                config.section(&mut reader, &name, value);
            }
        }
        if reader.mistakes.is_empty() {
            return Ok(config);
        }
        reader.mistakes.sort_by_key(|mistake| mistake.line);
        Err(ConfigError { mistakes: reader.mistakes })
    }

    fn section(
        &mut self,
        reader: &mut Reader<'_>,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: Spanned<DeValue<'_>>,
    ) {
        match name.get_ref().as_ref() {
            "http" => reader.section(name, value, &mut self.http),
            "websocket" => reader.section(name, value, &mut self.websocket),
            "log" => reader.section(name, value, &mut self.log),
            "journal" => reader.section(name, value, &mut self.journal),
            "bus" => reader.section(name, value, &mut self.bus),
            "plugins" => reader.section(name, value, &mut self.plugins),
            "shutdown" => reader.section(name, value, &mut self.shutdown),
            "confine" => reader.section(name, value, &mut self.confine),
            "admission" => reader.section(name, value, &mut self.admission),
            other => {
                let expected = "one of http, websocket, log, journal, bus, plugins, admission, shutdown, confine";
                reader.mistake(name.span(), other.to_owned(), &format!("unknown section, expected {expected}"));
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn mistake(&mut self, at: Range<usize>, key: String, message: &str) {
        let line = self.text.get(..at.start).unwrap_or_default().matches('\n').count() + 1;
        self.mistakes.push(Mistake { line, key, message: message.trim().replace('\n', " ") });
    }

    /// Reads a section. Where that fails, each of its keys is read for itself, so that every mistake is found: every key has
    /// a default, so one alone is as good as all.
    fn section<T: DeserializeOwned>(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: Spanned<DeValue<'_>>,
        into: &mut T,
    ) {
        match T::deserialize(value.clone().into_deserializer()) {
            Ok(section) => *into = section,
            Err(error) => {
                let before = self.mistakes.len();
                if let DeValue::Table(table) = value.get_ref() {
                    for (key, value) in table.iter() {
                        let mut alone = DeTable::new();
                        alone.insert(key.clone(), value.clone());
                        let alone = Spanned::new(key.span(), DeValue::Table(alone));
                        if let Err(error) = T::deserialize(alone.into_deserializer()) {
                            self.mistake(key.span(), format!("{}.{}", name.get_ref(), key.get_ref()), error.message());
                        }
                    }
                }
                if self.mistakes.len() == before {
                    let at = error.span().unwrap_or_else(|| name.span());
                    self.mistake(at, name.get_ref().to_string(), error.message());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn all_mistakes_are_said_at_once_with_their_lines() {
        let text = "[http]\nlisten = \"nowhere\"\ncolour = 3\n\n[websocket]\nping_s = 0\nmax_connections = 5\n\n[wings]\nx = 1\n[[admission]]\nfiltre = \"a\"\n";
        let error = Config::parse(text).unwrap_err();
        let found: Vec<_> = error.mistakes.iter().map(|mistake| (mistake.line, mistake.key.as_str())).collect();
        assert_eq!(
            found,
            [(2, "http.listen"), (3, "http.colour"), (6, "websocket.ping_s"), (9, "wings"), (12, "admission")],
            "{error}"
        );
    }

    #[test]
    fn globs_that_would_take_much_work_for_each_request_are_a_mistake() {
        let globs = (0..65).map(|n| format!("\"*{}{n:04}\", ", "?".repeat(250))).collect::<String>();
        for key in ["allowed_hosts", "allowed_origins"] {
            let error = Config::parse(&format!("[http]\n{key} = [{globs}]\n")).unwrap_err();
            let Mistake { line, key: found, message } = &error.mistakes[0];
            assert_eq!((*line, found.as_str()), (2, &*format!("http.{key}")), "{error}");
            assert!(message.contains("256 words of 64 characters"), "{error}");
        }
    }

    #[test]
    fn text_that_is_not_toml_says_where() {
        let error = Config::parse("[http]\nlisten = \n= 4\n").unwrap_err();
        assert_eq!(error.mistakes[0].line, 2, "{error}");
    }

    /// A key that the example does not explain is a key that nobody finds.
    #[test]
    fn the_example_file_shows_every_key_with_its_default() {
        let example = include_str!("../../config.example.toml");
        let uncommented: String =
            example.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
        let read = Config::parse(&uncommented).unwrap();
        assert_eq!(Config { admission: Vec::new(), ..read }, Config::default());
        let documented = |key: &str| uncommented.lines().any(|line| line.starts_with(&format!("{key} = ")));
        for section in [
            format!("{:?}", HttpConfig::default()),
            format!("{:?}", WebSocketConfig::default()),
            format!("{:?}", LogConfig::default()),
            format!("{:?}", JournalConfig::default()),
            format!("{:?}", BusConfig::default()),
            format!("{:?}", PluginsConfig::default()),
            format!("{:?}", ShutdownConfig::default()),
            format!("{:?}", ConfineConfig::default()),
        ] {
            let fields = section.split_once('{').unwrap().1;
            for field in fields.split([',', '{']).filter_map(|part| part.split_once(": ")).map(|(name, _)| name.trim())
            {
                // What only a program that embeds the hub can set.
                let hidden = ["commit_slots", "compiler", "markers"].contains(&field);
                assert!(documented(field) || hidden, "config.example.toml does not show `{field}`");
            }
        }
    }
}
