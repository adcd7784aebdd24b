//! What the settings file says to `tasker-ctl`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::failure::Failure;
use crate::output::Format;

/// The file: what is for the other programs is theirs to check.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) database_url: Option<String>,
    #[serde(rename = "log_format")]
    _log_format: Option<IgnoredAny>,
    #[serde(rename = "server")]
    _server: Option<IgnoredAny>,
    #[serde(rename = "worker")]
    _worker: Option<IgnoredAny>,
    pub(super) ctl: Option<Ctl>,
}

/// The table `[ctl]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ctl {
    pub(super) database_url: Option<String>,
    pub(super) output: Option<Format>,
    pub(super) profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// A table `[ctl.profiles.NAME]`: a server by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) database_url: Option<String>,
    pub(super) output: Option<Format>,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
            path: path.to_owned(),
            source,
        })?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!(", line {line}"));
            Failure::Settings(format!("{}{line}: {}", path.display(), error.message()))
        })?;
        if let Some(name) = file.ctl.as_ref().and_then(|ctl| ctl.profile.as_ref()) {
            let ctl = file.ctl.as_ref();
            ctl.map(|ctl| ctl.named(name, Some(path))).transpose()?;
        }
        Ok(file)
    }
}

impl Ctl {
    pub(super) fn profile_names(&self) -> impl Iterator<Item = &String> {
        self.profiles.keys()
    }

    pub(super) fn named(&self, name: &str, path: Option<&Path>) -> Result<&Profile, Failure> {
        self.profiles.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            let place = path.map_or_else(
                || "without a settings file".to_owned(),
                |path| format!("in {}", path.display()),
            );
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Failure::Settings(format!(
                "there is no profile {name} {place}; there are: {known}"
            ))
        })
    }
}
