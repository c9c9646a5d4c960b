//! A kind that becomes a step, and one that is left out.

use serde::{Deserialize, Serialize};

use crate::model::{Kind, KindInfo, KindRef, Namespace};

/// An item that becomes a step. What orders the steps names it by its number, which follows
/// namespace and kind.
pub(super) struct SelectedKind<'a> {
    pub pair: KindRef,
    pub item: &'a KindInfo,
}

/// A pair that the plan leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedKind {
    /// The namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Whose word that is.
    pub reason: String,
}

impl SkippedKind {
    /// The pair.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}
