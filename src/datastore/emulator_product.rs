//! Google's two emulators of Datastore, how a server is asked which one it is, and how they differ
//! (`docs/formats.md` 8).
//!
//! Knows paths and bodies. Must not know how an emulator is installed or started.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

/// How long the probe may take. An emulator that has just been started is slow.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Which of Google's emulators a server is. An emulator of others counts as the Datastore emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmulatorProduct {
    /// The Firestore emulator, in Datastore mode.
    Firestore,
    /// The Datastore emulator.
    Datastore,
}

impl EmulatorProduct {
    /// Both, the newer one first.
    pub const NEWEST_FIRST: [EmulatorProduct; 2] =
        [EmulatorProduct::Firestore, EmulatorProduct::Datastore];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            EmulatorProduct::Firestore => "firestore",
            EmulatorProduct::Datastore => "datastore",
        }
    }

    /// Whether it lists its namespaces and kinds, and exports one kind alone.
    pub fn exports_kinds(self) -> bool {
        self == EmulatorProduct::Datastore
    }

    /// Whether it takes new ids from a counter that heeds no `reserveIds`.
    pub fn has_own_id_counter(self) -> bool {
        self == EmulatorProduct::Datastore
    }

    /// Whether it refuses entities and values that are too large for the real service.
    pub fn has_service_limits(self) -> bool {
        self == EmulatorProduct::Firestore
    }

    /// The path and the body of an import of the export with this completion marker.
    pub(super) fn import_request(self, project: &str, input_url: &str) -> (String, Value) {
        match self {
            EmulatorProduct::Firestore => (
                format!("/emulator/v1/projects/{project}:import"),
                json!({"database": format!("projects/{project}/databases/"), "export_directory": input_url}),
            ),
            EmulatorProduct::Datastore => (
                format!("/v1/projects/{project}:import"),
                json!({"inputUrl": input_url}),
            ),
        }
    }

    /// Whether an import is done that was answered so.
    pub(super) fn is_import_done(self, answer: &Value) -> bool {
        match self {
            EmulatorProduct::Firestore => answer.is_object(),
            EmulatorProduct::Datastore => answer.pointer("/done") == Some(&true.into()),
        }
    }
}

/// Where an import of nothing shows which emulator it is: only the Firestore emulator knows the call,
/// and refuses it.
pub(super) fn probe_path(project: &str) -> String {
    format!("/emulator/v1/projects/{project}:import")
}

impl fmt::Display for EmulatorProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EmulatorProduct::Firestore => "Firestore emulator",
            EmulatorProduct::Datastore => "Datastore emulator",
        })
    }
}

impl FromStr for EmulatorProduct {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut products = EmulatorProduct::NEWEST_FIRST.into_iter();
        let product = products.find(|product| product.as_str() == word);
        product.ok_or_else(|| format!("{word:?} is neither firestore nor datastore"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_have_one_name_each() {
        for product in EmulatorProduct::NEWEST_FIRST {
            assert_eq!(product.as_str().parse(), Ok(product));
        }
        assert!("Firestore".parse::<EmulatorProduct>().is_err());
    }
}
