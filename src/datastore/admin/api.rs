//! The two APIs of Google that start exports and imports, and what they call the same things. Pure.
//!
//! Datastore Admin v1 serves the default database of a project. Firestore Admin v1 serves every
//! database, of Datastore mode too, but its operations carry no labels.

use serde_json::{Value, json};

use super::ImportRequest;
use super::export::ExportRequest;

/// How Firestore Admin names the default database.
const DEFAULT_DATABASE: &str = "(default)";

/// An API and the database that it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdminApi {
    /// The default database.
    Datastore {
        /// Its project.
        project: String,
    },
    /// Any database.
    Firestore {
        /// Its project.
        project: String,
        /// `(default)`, or the name of another one.
        database: String,
    },
}

impl AdminApi {
    pub(super) fn datastore(project: &str) -> Self {
        AdminApi::Datastore {
            project: project.to_owned(),
        }
    }

    /// The default database where none is named.
    pub(super) fn firestore(project: &str, database: Option<&str>) -> Self {
        AdminApi::Firestore {
            project: project.to_owned(),
            database: database.unwrap_or(DEFAULT_DATABASE).to_owned(),
        }
    }

    /// What messages name.
    pub(super) fn title(&self) -> String {
        match self {
            AdminApi::Firestore { project, database } if database != DEFAULT_DATABASE => {
                format!("project {project}/{database}")
            }
            AdminApi::Datastore { project } | AdminApi::Firestore { project, .. } => {
                format!("project {project}")
            }
        }
    }

    /// What operations are below of, in addresses.
    pub(super) fn parent(&self) -> String {
        match self {
            AdminApi::Datastore { project } => format!("projects/{project}"),
            AdminApi::Firestore { project, database } => {
                format!("projects/{project}/databases/{database}")
            }
        }
    }

    /// Whether operations carry the labels of their request.
    pub(super) fn has_labels(&self) -> bool {
        matches!(self, AdminApi::Datastore { .. })
    }

    /// Whether a name is that of an operation of this database; it becomes a part of an address.
    pub(super) fn is_operation(&self, name: &str) -> bool {
        let id = name
            .strip_prefix(&self.parent())
            .and_then(|rest| rest.strip_prefix("/operations/"));
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_=".contains(&c);
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(is_plain))
    }

    /// The verb of an import in an address.
    pub(super) fn import_verb(&self) -> &'static str {
        match self {
            AdminApi::Datastore { .. } => "import",
            AdminApi::Firestore { .. } => "importDocuments",
        }
    }

    /// The verb of an export in an address.
    pub(super) fn export_verb(&self) -> &'static str {
        match self {
            AdminApi::Datastore { .. } => "export",
            AdminApi::Firestore { .. } => "exportDocuments",
        }
    }

    /// From where an operation says that it imports.
    pub(super) fn import_address<'a>(&self, input_url: &'a str) -> &'a str {
        match self {
            AdminApi::Datastore { .. } => input_url,
            AdminApi::Firestore { .. } => folder(input_url),
        }
    }

    /// The request of an import. Without a filter: what is in the export is all to be imported, and
    /// a filter would have to be one that the export was made with.
    pub(super) fn import_body(&self, import: &ImportRequest) -> Value {
        let address = self.import_address(&import.input_url);
        match self {
            AdminApi::Datastore { .. } => {
                json!({"inputUrl": address, "labels": import.label.pairs()})
            }
            AdminApi::Firestore { .. } => json!({"inputUriPrefix": address}),
        }
    }

    /// The request of an export of one kind of one namespace.
    pub(super) fn export_body(&self, request: &ExportRequest) -> Value {
        let (kind, namespace) = (request.kind.as_str(), request.namespace.as_str());
        match self {
            AdminApi::Datastore { .. } => json!({
                "labels": request.label.pairs(),
                "entityFilter": {"kinds": [kind], "namespaceIds": [namespace]},
                "outputUrlPrefix": request.output_prefix,
            }),
            AdminApi::Firestore { .. } => {
                let mut body = json!({
                    "collectionIds": [kind],
                    "namespaceIds": [namespace],
                    "outputUriPrefix": request.output_prefix,
                });
                if let (Some(time), Some(fields)) = (request.snapshot_time, body.as_object_mut()) {
                    fields.insert("snapshotTime".to_owned(), time.to_string().into());
                }
                body
            }
        }
    }
}

/// The folder that an object is in.
fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_operation_names_are_refused() {
        let datastore = AdminApi::datastore("shop");
        assert!(
            datastore
                .is_operation("projects/shop/operations/ASA1MTAwNDQxNAgadGx1YWZlZAcSYWx0cm-fdr_5=")
        );
        for name in [
            "",
            "projects/shop/operations/",
            "projects/other/operations/a",
            "projects/shop-2/operations/a",
            "projects/shop/databases/orders/operations/a",
            "projects/shop/operations/../../other/operations/a",
            "projects/shop/operations/a?alt=media",
            "projects/shop/operations/a:cancel",
        ] {
            assert!(!datastore.is_operation(name), "{name}");
        }
        let firestore = AdminApi::firestore("shop", Some("orders"));
        assert!(firestore.is_operation("projects/shop/databases/orders/operations/a"));
        assert!(!firestore.is_operation("projects/shop/operations/a"));
        assert!(!firestore.is_operation("projects/shop/databases/orders-2/operations/a"));
        let default = AdminApi::firestore("shop", None);
        assert!(default.is_operation("projects/shop/databases/(default)/operations/a"));
    }

    #[test]
    fn titles_name_named_databases() {
        assert_eq!(AdminApi::datastore("shop").title(), "project shop");
        assert_eq!(AdminApi::firestore("shop", None).title(), "project shop");
        let named = AdminApi::firestore("shop", Some("orders"));
        assert_eq!(named.title(), "project shop/orders");
    }
}
