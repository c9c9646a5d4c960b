//! Kind, namespace and the pair of the two: the unit that is exported, packed, planned and
//! restored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the default namespace (the empty string in Datastore) is written for people.
pub const DEFAULT_NAMESPACE: &str = "(default)";

/// The kind of an entity: any text of up to 1,500 bytes, `/` and `*` included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(String);

impl Kind {
    /// Wraps a kind as it stands in a key or in an export's metadata.
    pub fn new(text: impl Into<String>) -> Self {
        Kind(text.into())
    }

    /// The kind as text, exactly as Datastore has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A namespace; the default one is the empty string and shows itself as `(default)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    /// Wraps a namespace as it stands in a key; empty is the default namespace.
    pub fn new(text: impl Into<String>) -> Self {
        Namespace(text.into())
    }

    /// Reads a namespace as people write it: `(default)` is the default one.
    pub fn parse_display(text: &str) -> Self {
        Namespace(if text == DEFAULT_NAMESPACE {
            String::new()
        } else {
            text.to_owned()
        })
    }

    /// The namespace as Datastore has it: empty for the default one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Datastore can have a namespace of that name: up to 100 of letters, digits, `.`, `_`
    /// and `-` (`docs/formats.md` 2).
    pub fn is_valid(&self) -> bool {
        self.0.len() <= 100
            && self
                .0
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }

    /// Whether this is the default namespace.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.0.is_empty() {
            DEFAULT_NAMESPACE
        } else {
            &self.0
        })
    }
}

/// One kind in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KindRef {
    /// The namespace; it orders before the kind.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
}

/// The kind of the mark that a restore leaves in a real project while it runs, in the default
/// namespace. No archive's mark is restored.
pub const LEASE_KIND: &str = "KindpackLease";

impl KindRef {
    /// Whether that is where kindpack leaves its own mark.
    pub fn is_lease(&self) -> bool {
        self.namespace.is_default() && self.kind.as_str() == LEASE_KIND
    }

    /// The kind as a selector writes it: what would match is escaped.
    pub(super) fn escaped_kind(&self) -> String {
        let mut escaped = String::new();
        for c in self.kind.as_str().chars() {
            if matches!(c, '*' | '?' | '\\') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    }

    /// The pair of `kind` in `namespace` (empty for the default namespace).
    pub fn new(namespace: impl Into<String>, kind: impl Into<String>) -> Self {
        KindRef {
            namespace: Namespace::new(namespace),
            kind: Kind::new(kind),
        }
    }
}

/// The pair as a selector that matches it and nothing else, such as `(default)/Customer`.
impl fmt::Display for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.escaped_kind())
    }
}
