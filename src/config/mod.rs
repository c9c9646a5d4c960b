//! `kindpack.toml`: the backups of several applications, and the profiles of restores.
//!
//! One file, one reader, one set of errors: each names the file, the line, and of an unknown key
//! the nearest known one. The reader opens no other file and reads no secret.

mod app;
mod notify;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

pub use crate::plan::profile::ConfigError;
pub use app::AppConfig;

use crate::plan::profile::{Profile, WrittenProfile, read};
use app::WrittenApp;

/// A configuration.
#[derive(Debug)]
pub struct Config {
    file: String,
    /// The backups, by the names of their applications.
    pub apps: BTreeMap<String, AppConfig>,
    /// What is wrong with a profile matters only where it is used.
    profiles: BTreeMap<String, Result<Profile, ConfigError>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenConfig {
    #[serde(default)]
    defaults: WrittenApp,
    #[serde(default)]
    app: BTreeMap<String, Spanned<WrittenApp>>,
    #[serde(default)]
    profile: BTreeMap<String, WrittenProfile>,
}

impl Config {
    /// Reads a configuration. Paths in it lead on from `folder`, where it is.
    ///
    /// # Errors
    /// When any part of it is wrong.
    pub fn read(text: &str, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let written: WrittenConfig = read(text, file)?;
        let at = |fault| ConfigError::at(text, file, fault);
        let mut apps = BTreeMap::new();
        for (name, app) in written.app {
            let place = app.span().start;
            let app = app.into_inner().or(&written.defaults);
            let app = app.finish(&name, place, folder).map_err(at)?;
            apps.insert(name, app);
        }
        let mut profiles = BTreeMap::new();
        for (name, profile) in written.profile {
            profiles.insert(name, profile.finish(folder).map_err(at));
        }
        Ok(Config {
            file: file.to_owned(),
            apps,
            profiles,
        })
    }

    /// Takes one profile.
    ///
    /// # Errors
    /// When there is none of that name, or it is wrong.
    pub fn take_profile(&mut self, name: &str) -> Result<Profile, ConfigError> {
        let profile = self.profiles.remove(name);
        profile.unwrap_or_else(|| Err(self.missing("profile", name, self.profiles.keys())))
    }

    /// Every profile.
    ///
    /// # Errors
    /// What is wrong with the first of them that is wrong.
    pub fn profiles(&self) -> Result<Vec<&Profile>, ConfigError> {
        let profiles = self.profiles.values();
        profiles
            .map(|profile| profile.as_ref().map_err(Clone::clone))
            .collect()
    }

    /// The names of the profiles.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The applications of these names, or all of them where there is no name.
    ///
    /// # Errors
    /// When there is none of a name, or none at all.
    pub fn choose_apps(&self, names: &[String]) -> Result<Vec<&AppConfig>, ConfigError> {
        if names.is_empty() && self.apps.is_empty() {
            return Err(self.missing("app", "NAME", self.apps.keys()));
        }
        if names.is_empty() {
            return Ok(self.apps.values().collect());
        }
        let app = |name: &String| {
            let app = self.apps.get(name);
            app.ok_or_else(|| self.missing("app", name, self.apps.keys()))
        };
        names.iter().map(app).collect()
    }

    fn missing<'a>(
        &self,
        table: &str,
        name: &str,
        known: impl Iterator<Item = &'a String>,
    ) -> ConfigError {
        let known: Vec<String> = known.map(|name| format!("{table}.{name}")).collect();
        let others = match known.is_empty() {
            true => format!("it has no [{table}.…] at all"),
            false => format!("it has {}", known.join(", ")),
        };
        let fault = format!("there is no [{table}.{name}]; {others}");
        ConfigError::missing(&self.file, fault)
    }
}

#[cfg(test)]
mod tests;
