//! What becomes of properties and keys on their way into a test environment: `KIND.path=ACTION`.
//!
//! Knows rules, names and values. Must not know who restores what, or where. No value ever stands
//! in an error.

mod fake;
mod form;
mod key;
mod keys;
mod redactor;
mod rule;
mod rules;
#[cfg(test)]
mod tests;

pub use key::RedactKey;
pub use redactor::Redactor;
pub use rule::{Action, RedactRule, RuleError};
pub use rules::{RedactError, RuleSet};
