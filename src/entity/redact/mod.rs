//! What becomes of properties and keys on their way into a test environment: `KIND.path=ACTION`.
//!
//! Knows rules, names and values. Must not know who restores what, or where. No value ever stands
//! in an error.

mod apply;
mod fake;
mod form;
mod keys;
mod rule;
mod rules;
mod secret;
#[cfg(test)]
mod tests;

pub use apply::Redactor;
pub use rule::{Action, Rule, RuleError};
pub use rules::{RedactError, Rules};
pub use secret::RedactKey;
