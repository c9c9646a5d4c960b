//! Values of options: how they are read, and which ones a shell offers.

use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, error::Error as ClapError};
use lettre::message::Mailbox;

use crate::datastore::emulator_product::EmulatorProduct;
use crate::model::{Sample, TargetSpec};
use crate::plan::{OnExisting, WriteMethod};

/// `5%`: what has no percent sign is a limit, which has an option of its own.
pub fn share(text: &str) -> Result<Sample, String> {
    match text.parse() {
        Ok(share @ Sample::Share(_)) => Ok(share),
        Ok(Sample::Limit(number)) => Err(format!(
            "a share ends with %: write --sample {number}%, or --limit {number} for that many entities of each kind"
        )),
        Err(_) => Err(format!("{text:?} is not a share: write one such as 5%")),
    }
}

/// Reads an email address, with or without a name.
pub fn mail_address(text: &str) -> Result<Mailbox, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an email address such as ops@example.com"))
}

/// The words of `--on-existing`, each with what it does.
const ON_EXISTING: [(&str, &str); 3] = [
    ("fail", "Refuse to write into kinds that hold entities"),
    (
        "merge",
        "Overwrite entities with the same key, keep all others",
    ),
    (
        "replace",
        "Overwrite entities with the same key, DELETE all others",
    ),
];

/// The words of `--via`, each with what it does.
const VIA: [(&str, &str); 2] = [
    ("commit", "Write entities in batches"),
    ("import", "Use the import of Datastore or its emulator"),
];

/// The words of `--emulator`, each with what it is.
const EMULATORS: [(&str, &str); 2] = [
    ("datastore", "The Datastore emulator"),
    ("firestore", "The Firestore emulator in Datastore mode"),
];

/// Reads `--emulator`.
pub fn emulator() -> impl TypedValueParser<Value = EmulatorProduct> {
    words(&EMULATORS).try_map(|word| word.parse::<EmulatorProduct>())
}

/// Reads `--on-existing`.
pub fn on_existing() -> impl TypedValueParser<Value = OnExisting> {
    words(&ON_EXISTING).try_map(|word| word.parse::<OnExisting>())
}

/// Reads `--via`.
pub fn via() -> impl TypedValueParser<Value = WriteMethod> {
    words(&VIA).try_map(|word| word.parse::<WriteMethod>())
}

fn words(words: &[(&'static str, &'static str)]) -> PossibleValuesParser {
    let values = words.iter();
    PossibleValuesParser::new(values.map(|(word, help)| PossibleValue::new(*word).help(*help)))
}

/// Reads a value that begins with one of a few words, such as `emulator:`. A shell offers the
/// words; what follows them is checked by the type.
#[derive(Debug)]
pub struct PrefixParser<T> {
    prefixes: &'static [&'static str],
    value: PhantomData<fn() -> T>,
}

impl<T> PrefixParser<T> {
    /// What a restore writes into.
    pub fn target() -> Self {
        PrefixParser::new(&TargetSpec::PREFIXES)
    }

    /// What a backup reads.
    pub fn datastore() -> Self {
        PrefixParser::new(&["datastore:", "emulator:"])
    }

    fn new(prefixes: &'static [&'static str]) -> Self {
        PrefixParser {
            prefixes,
            value: PhantomData,
        }
    }
}

impl<T> Clone for PrefixParser<T> {
    fn clone(&self) -> Self {
        PrefixParser::new(self.prefixes)
    }
}

impl<T> TypedValueParser for PrefixParser<T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, ClapError> {
        TypedValueParser::parse_ref(&T::from_str, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let prefixes = self.prefixes.iter();
        Some(Box::new(prefixes.map(|prefix| PossibleValue::new(*prefix))))
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantNames as _;

    use super::*;

    #[test]
    fn every_word_of_a_choice_is_offered() {
        assert_eq!(ON_EXISTING.map(|(word, _)| word), OnExisting::VARIANTS);
        assert_eq!(VIA.map(|(word, _)| word), WriteMethod::VARIANTS);
    }

    #[test]
    fn number_as_a_share_names_the_limit() {
        let error = share("5").unwrap_err();
        assert!(
            error.contains("--limit 5") && error.contains("5%"),
            "{error}"
        );
        assert!(share("5%").is_ok());
        assert!(share("0.05").unwrap_err().ends_with("write one such as 5%"));
    }
}
