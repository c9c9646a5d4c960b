//! What the user decides about a restore: target, selection, order, maps.
//!
//! Knows how each choice is spelled, not what an archive holds: whether a choice fits is the
//! planner's to say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use strum::VariantNames;

use crate::model::{KindRef, Namespace, Sample, Selector, SelectorError, TargetSpec};
use crate::transform::redact::RedactRule;

/// All that the user decides. The planner adds nothing but the emulator's address. As JSON it is
/// part of what a plan's seal covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choices {
    /// Where the restore goes.
    pub target: TargetSpec,
    /// How it gets there.
    pub via: WriteMethod,
    /// What the target may hold already.
    pub on_existing: OnExisting,
    /// Entities of the left namespace land in the right one, all at once: a map is not applied to
    /// another's result.
    #[serde(rename = "maps")]
    pub map_namespaces: BTreeMap<Namespace, Namespace>,
    /// Which pairs are restored, and in which order.
    #[serde(rename = "choices")]
    pub selection: PlanSelection,
    /// Where exports are laid down for [`WriteMethod::Import`]: `gs://BUCKET/NAME` or a local folder.
    pub staging: Option<String>,
    /// What becomes of properties and keys on their way.
    pub redaction: Redaction,
    /// Which entities of each pair are restored; all without it.
    pub sample: Option<Sample>,
    /// Commands that are run between the steps.
    pub hooks: Hooks,
}

/// What becomes of properties and keys on their way into the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// The rules, in the order in which they were given.
    pub rules: Vec<RedactRule>,
    /// Tells keys apart without telling the key: the same one must be there when the plan runs.
    /// None where no rule needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Whether the secret behind the key is short enough to be guessed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_is_short: bool,
    /// What each rule matches of the archive, in the order of the rules; empty where nobody looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RuleMatch>,
}

/// What a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleMatch {
    /// The rule.
    pub rule: RedactRule,
    /// The properties, as `KIND.path`, sorted.
    pub properties: Vec<String>,
    /// Where those are none: the properties that the rule matches in kinds that the plan leaves
    /// out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Commands that the user wants run, through `sh -c`, with the step in their environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_step: Option<String>,
    /// Behind each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_step: Option<String>,
    /// When all steps are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_all: Option<String>,
}

impl Hooks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Hooks::default()
    }
}

impl Choices {
    /// Everything in the archive, in the data's own order, into an empty target.
    pub fn new(target: TargetSpec) -> Self {
        Choices {
            target,
            via: WriteMethod::Commit,
            on_existing: OnExisting::Fail,
            map_namespaces: BTreeMap::new(),
            selection: PlanSelection::default(),
            staging: None,
            redaction: Redaction::default(),
            sample: None,
            hooks: Hooks::default(),
        }
    }
}

/// Which pairs are restored, and in which order; recorded in the plan as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSelection {
    /// Only pairs that one of these chooses; empty means all.
    pub only: Vec<Selector>,
    /// Not the pairs that one of these chooses.
    pub exclude: Vec<Selector>,
    /// These before all others, in this order.
    pub first: Vec<Selector>,
    /// These behind all others, in this order.
    pub last: Vec<Selector>,
    /// One choice of pairs behind another.
    pub depends_on: Vec<DependencyRule>,
    /// What a file says of the order, besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_file: Option<OrderFile>,
    /// With `only` and a sample: what the chosen ones need comes too, their parents and what they
    /// refer to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_dependencies: bool,
    /// The profile that some of the choices come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The options whose selectors come from the profile, such as `only`. Errors name them so; the
    /// plan does not record it.
    #[serde(skip)]
    pub profile_lists: Vec<&'static str>,
    /// The user declares that the archive's source project itself is to be overwritten.
    pub disaster_recovery: bool,
}

/// The order that a file asks for; it means what the options of the same names mean, and joins
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderFile {
    /// The file, as it was named.
    pub file: String,
    /// These before all others, in this order.
    pub first: Vec<Selector>,
    /// These behind all others, in this order.
    pub last: Vec<Selector>,
    /// One choice of pairs behind another.
    pub depends_on: Vec<DependencyRule>,
}

/// A choice with the place where it was made, such as `--first` or `order.toml: first`.
type SourcedChoice<'a, T> = (String, &'a T);

impl PlanSelection {
    /// Whether the user's words take that pair. Others come along only because something needs
    /// them.
    pub fn is_chosen(&self, pair: &KindRef) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.matches(pair))
    }

    /// Whether the user's words take that pair and do not exclude it.
    pub fn takes(&self, pair: &KindRef) -> bool {
        self.is_chosen(pair) && !self.exclude.iter().any(|exclude| exclude.matches(pair))
    }

    /// All that goes first, in order: what was typed, then what the file says.
    pub(super) fn firsts(&self) -> Vec<SourcedChoice<'_, Selector>> {
        self.said("first", &self.first, |order| &order.first)
    }

    /// All that goes last.
    pub(super) fn lasts(&self) -> Vec<SourcedChoice<'_, Selector>> {
        self.said("last", &self.last, |order| &order.last)
    }

    /// All that waits for something.
    pub(super) fn depends_on(&self) -> Vec<SourcedChoice<'_, DependencyRule>> {
        self.said("depends_on", &self.depends_on, |order| &order.depends_on)
    }

    /// Every selector of the selection.
    pub(super) fn selectors(&self) -> Vec<SourcedChoice<'_, Selector>> {
        let only = self
            .only
            .iter()
            .map(|selector| ("--only".to_owned(), selector));
        let exclude = self
            .exclude
            .iter()
            .map(|selector| ("--exclude".to_owned(), selector));
        let mut all: Vec<_> = only
            .chain(exclude)
            .chain(self.firsts())
            .chain(self.lasts())
            .collect();
        for (option, after) in self.depends_on() {
            all.extend([(option.clone(), &after.step), (option, &after.needs)]);
        }
        for (option, _) in &mut all {
            self.name_profile(option);
        }
        all
    }

    /// Names the profile in the place of an option that it holds.
    fn name_profile(&self, option: &mut String) {
        let key = option.trim_start_matches('-').replace('-', "_");
        if let Some(profile) = &self.profile
            && option.starts_with("--")
            && self.profile_lists.contains(&key.as_str())
        {
            *option = format!("profile {profile}: {key}");
        }
    }

    fn said<'a, T>(
        &'a self,
        name: &str,
        typed: &'a [T],
        of_file: fn(&OrderFile) -> &Vec<T>,
    ) -> Vec<SourcedChoice<'a, T>> {
        let option = format!("--{}", name.replace('_', "-"));
        let typed = typed.iter().map(move |what| (option.clone(), what));
        let filed = self.order_file.iter().flat_map(|order| {
            of_file(order)
                .iter()
                .map(move |what| (format!("{}: {name}", order.file), what))
        });
        typed.chain(filed).collect()
    }
}

/// `A=B`: what `A` chooses waits until all that `B` chooses is done.
///
/// The first `=` divides. A kind on the left that holds `=` is written with `?` in its place.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct DependencyRule {
    /// What waits.
    pub step: Selector,
    /// What it waits for.
    pub needs: Selector,
}

impl FromStr for DependencyRule {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let Some((step, needs)) = text.split_once('=') else {
            return Err(ChoiceError::Spelling {
                what: "order",
                text: text.to_owned(),
                fault: "has no `=`: write A=B to restore A after B".into(),
            });
        };
        let side = |side: &str| {
            side.parse().map_err(|source| ChoiceError::Side {
                text: text.to_owned(),
                source,
            })
        };
        Ok(DependencyRule {
            step: side(step)?,
            needs: side(needs)?,
        })
    }
}

impl fmt::Display for DependencyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.step, self.needs)
    }
}

/// `FROM=TO`: entities of one namespace, and all references to them, move to another. The default
/// one is spelled `(default)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceMap {
    /// The namespace in the archive.
    pub from: Namespace,
    /// The namespace in the target.
    pub to: Namespace,
}

impl NamespaceMap {
    /// Joins maps; a namespace that is moved to two places is an error.
    pub fn join(
        maps: impl IntoIterator<Item = NamespaceMap>,
    ) -> Result<BTreeMap<Namespace, Namespace>, ChoiceError> {
        let mut joined = BTreeMap::new();
        for NamespaceMap { from, to } in maps {
            let text = format!("{from}={to}");
            if let Some(other) = joined.insert(from, to.clone()).filter(|other| *other != to) {
                return Err(ChoiceError::Spelling {
                    what: "namespace map",
                    text,
                    fault: format!("contradicts another one, to {other}").into(),
                });
            }
        }
        Ok(joined)
    }
}

impl FromStr for NamespaceMap {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let wrong = |fault: Cow<'static, str>| ChoiceError::Spelling {
            what: "namespace map",
            text: text.to_owned(),
            fault,
        };
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| wrong("has no `=`: write FROM=TO".into()))?;
        let side = |side: &str| {
            let namespace = Namespace::parse_display(side);
            // Datastore's own limits, docs/formats.md 2; an empty side is far more often a slip
            // than the default namespace.
            let fits = side.len() <= 100
                && namespace
                    .as_str()
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'));
            if fits && !side.is_empty() {
                Ok(namespace)
            } else {
                let fault = format!(
                    "names {side:?}, which is neither (default) nor up to 100 of A-Z a-z 0-9 . _ -"
                );
                Err(wrong(fault.into()))
            }
        };
        Ok(NamespaceMap {
            from: side(from)?,
            to: side(to)?,
        })
    }
}

/// What the target may hold of a step's pair before the step runs.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[strum(parse_err_ty = ChoiceError, parse_err_fn = OnExisting::unknown)]
pub enum OnExisting {
    /// Nothing.
    #[default]
    Fail,
    /// Anything: entities of the same key are overwritten, others stay.
    Merge,
    /// Anything: entities of the same key are overwritten, others of the pair are deleted.
    Replace,
}

impl OnExisting {
    fn unknown(word: &str) -> ChoiceError {
        ChoiceError::unknown_word("--on-existing", word, Self::VARIANTS)
    }
}

/// How entities get into the target.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[strum(parse_err_ty = ChoiceError, parse_err_fn = WriteMethod::unknown)]
pub enum WriteMethod {
    /// Written by kindpack itself, through commits where the target is a Datastore.
    #[default]
    Commit,
    /// Each step's export as it is, by the import of the target's own.
    Import,
}

impl WriteMethod {
    fn unknown(word: &str) -> ChoiceError {
        ChoiceError::unknown_word("--via", word, Self::VARIANTS)
    }
}

/// What the planner is told about the world around it; it looks nothing up by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The value of `DATASTORE_EMULATOR_HOST`, if it is set, be it to nothing.
    pub emulator_host: Option<String>,
    /// Another variable that sets an emulator up, as `gcloud` prints them together, and its value.
    pub half_set: Option<(String, String)>,
}

impl Environment {
    /// A variable that says that an emulator is meant, and its value.
    pub(super) fn emulator_variable(&self) -> Option<(&str, &str)> {
        let host = self
            .emulator_host
            .as_deref()
            .map(|host| ("DATASTORE_EMULATOR_HOST", host));
        host.or_else(|| {
            self.half_set
                .as_ref()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        })
    }
}

/// A choice that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ChoiceError {
    /// It is not spelled as it must be.
    #[error("{what} {text:?} {fault}")]
    Spelling {
        /// What was to be read, such as `order`.
        what: &'static str,
        /// All of it, as given.
        text: String,
        /// What is wrong with it.
        fault: Cow<'static, str>,
    },
    /// One side of `A=B` is no selector.
    #[error("order {text:?}: {source}")]
    Side {
        /// The whole `A=B`.
        text: String,
        /// What is wrong with the side.
        source: SelectorError,
    },
}

impl ChoiceError {
    /// A word that is none of those that there are.
    fn unknown_word(what: &'static str, word: &str, words: &[&str]) -> Self {
        ChoiceError::Spelling {
            what,
            text: word.to_owned(),
            fault: format!("is unknown: write {}", either(words)).into(),
        }
    }
}

/// `a, b or c`.
fn either(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [first @ .., before])) => {
            let early: String = first.iter().map(|word| format!("{word}, ")).collect();
            format!("{early}{before} or {last}")
        }
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KindRef;

    #[test]
    fn the_first_equals_sign_divides_an_order() {
        let after: DependencyRule = "acme/Order=a=b".parse().unwrap();
        assert_eq!(after.to_string(), "acme/Order=a=b");
        assert!(
            after.step.matches(&KindRef::new("acme", "Order"))
                && after.needs.matches(&KindRef::new("", "a=b"))
        );
        for wrong in ["", "Order", "=User", "Order=", "Order=acme/", r"\a=b"] {
            assert!(wrong.parse::<DependencyRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn namespace_map_writes_default_in_brackets() {
        let map: NamespaceMap = "(default)=acme".parse().unwrap();
        assert_eq!((map.from.as_str(), map.to.as_str()), ("", "acme"));
        for wrong in [
            "",
            "acme",
            "=acme",
            "acme=",
            "a=b=c",
            "a=b/c",
            "a=b c",
            "a=(Default)",
        ] {
            assert!(wrong.parse::<NamespaceMap>().is_err(), "{wrong}");
        }
        assert!(
            format!("a={}", "x".repeat(101))
                .parse::<NamespaceMap>()
                .is_err()
        );
    }

    #[test]
    fn a_namespace_cannot_move_to_two_places() {
        let join =
            |texts: &[&str]| NamespaceMap::join(texts.iter().map(|text| text.parse().unwrap()));
        assert_eq!(join(&["a=b", "b=a", "a=b"]).unwrap().len(), 2);
        assert_eq!(
            join(&["a=b", "a=(default)"]).unwrap_err().to_string(),
            r#"namespace map "a=(default)" contradicts another one, to b"#
        );
    }

    #[test]
    fn write_methods_parse_only_what_they_print() {
        for policy in [OnExisting::Fail, OnExisting::Merge, OnExisting::Replace] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for via in [WriteMethod::Commit, WriteMethod::Import] {
            assert_eq!(via.to_string().parse(), Ok(via));
        }
        let found = "overwrite".parse::<OnExisting>().unwrap_err().to_string();
        assert_eq!(
            found,
            r#"--on-existing "overwrite" is unknown: write fail, merge or replace"#
        );
        assert!("copy".parse::<WriteMethod>().is_err());
    }

    #[test]
    fn one_command_is_enough_for_hooks() {
        assert!(Hooks::default().is_empty());
        let after_step = Some("true".to_owned());
        let hooks = Hooks {
            after_step,
            ..Hooks::default()
        };
        assert!(!hooks.is_empty());
    }

    #[test]
    fn selection_takes_the_chosen_but_the_excluded() {
        let selectors = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let takes = |only: &[&str], exclude: &[&str]| {
            let selection = PlanSelection {
                only: selectors(only),
                exclude: selectors(exclude),
                ..PlanSelection::default()
            };
            selection.takes(&KindRef::new("acme", "Order"))
        };
        assert!(takes(&[], &[]) && takes(&["acme/*"], &["User"]));
        assert!(
            !takes(&["User"], &[]) && !takes(&["acme/*"], &["Order"]) && !takes(&[], &["acme/*"])
        );
    }
}
