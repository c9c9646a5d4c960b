//! Moving keys: which project, database and namespace an entity's key and its references get in a
//! target.
//!
//! Knows keys and one rule. Must not know how a key is written: that is for `json`, `message` and
//! `encode`, which ask for every key they write.

use std::collections::BTreeMap;

use super::types::Key;
use crate::model::Namespace;

/// Where keys of one project go.
///
/// Only keys and references of [`KeyMapping::from_project`] move; those of a third project stay as
/// they are. The same holds everywhere: in the entity's own key, in references indexed or not, in
/// arrays, in embedded entities at any depth and in the keys of those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyMapping {
    /// The project whose keys move, without a leading `s~`.
    pub from_project: String,
    /// The database whose keys move with them; empty for the default one. References to another
    /// database of the project follow the project only.
    pub from_database: String,
    /// Where they move to; none leaves project and database as they are.
    pub to: Option<DestinationProject>,
    /// Namespaces that get another name. Those that are not named stay.
    pub namespaces: BTreeMap<Namespace, Namespace>,
}

/// A project and database that keys move to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationProject {
    /// The project, without a prefix such as `s~`.
    pub project: String,
    /// The database; empty for the default one.
    pub database: String,
}

impl KeyMapping {
    /// The rewrite that changes nothing.
    pub fn identity() -> Self {
        KeyMapping::default()
    }

    /// The project, namespace and database that `key` gets; the project without a prefix such as
    /// `s~`.
    pub fn partition<'a>(&'a self, key: &Key<'a>) -> (&'a str, &'a str, &'a str) {
        let project = key.project();
        // An embedded entity without a key has an empty app; it gains none.
        if project.is_empty() || project != self.from_project {
            return (project, key.namespace, key.database);
        }
        if key.database != self.from_database {
            return (
                self.to.as_ref().map_or(project, |to| to.project.as_str()),
                key.namespace,
                key.database,
            );
        }
        let (project, database) = self.to.as_ref().map_or((project, key.database), |to| {
            (to.project.as_str(), to.database.as_str())
        });
        let moved = |(from, to): (&Namespace, &'a Namespace)| {
            (from.as_str() == key.namespace).then_some(to.as_str())
        };
        let namespace = self
            .namespaces
            .iter()
            .find_map(moved)
            .unwrap_or(key.namespace);
        (project, namespace, database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(app: &'a str, namespace: &'a str, database: &'a str) -> Key<'a> {
        Key {
            app,
            namespace,
            database,
            path: Vec::new(),
        }
    }

    fn rewrite(to: Option<(&str, &str)>, namespaces: &[(&str, &str)]) -> KeyMapping {
        KeyMapping {
            from_project: "src".to_owned(),
            from_database: String::new(),
            to: to.map(|(project, database)| DestinationProject {
                project: project.to_owned(),
                database: database.to_owned(),
            }),
            namespaces: namespaces
                .iter()
                .map(|(from, to)| (Namespace::new(*from), Namespace::new(*to)))
                .collect(),
        }
    }

    #[test]
    fn only_keys_of_the_source_project_move() {
        let moving = rewrite(Some(("dst", "db")), &[("acme", "beta"), ("", "main")]);
        for (from, to) in [
            (("src", "acme", ""), ("dst", "beta", "db")),
            (("s~src", "acme", ""), ("dst", "beta", "db")),
            (("s~src", "acme", "another"), ("dst", "acme", "another")),
            (("e~src", "", ""), ("dst", "main", "db")),
            (("src", "other", ""), ("dst", "other", "db")),
            (("third", "acme", "old"), ("third", "acme", "old")),
            (("s~src2", "acme", ""), ("src2", "acme", "")),
            (("", "acme", ""), ("", "acme", "")),
        ] {
            assert_eq!(
                moving.partition(&key(from.0, from.1, from.2)),
                to,
                "{from:?}"
            );
        }
    }

    #[test]
    fn namespace_mapping_keeps_project_and_database() {
        let moving = rewrite(None, &[("acme", "")]);
        let moving = KeyMapping {
            from_database: "db".to_owned(),
            ..moving
        };
        assert_eq!(
            moving.partition(&key("s~src", "acme", "db")),
            ("src", "", "db")
        );
        assert_eq!(
            moving.partition(&key("s~src", "acme", "")),
            ("src", "acme", "")
        );
    }

    #[test]
    fn identity_mapping_changes_no_key() {
        assert_eq!(
            KeyMapping::identity().partition(&key("", "a", "b")),
            ("", "a", "b")
        );
        let of_no_project = KeyMapping {
            from_project: String::new(),
            ..rewrite(Some(("dst", "db")), &[("a", "c")])
        };
        assert_eq!(of_no_project.partition(&key("", "a", "b")), ("", "a", "b"));
    }
}
