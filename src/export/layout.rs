//! The layout of a managed export that kindpack writes itself: names of its objects, and its two
//! metadata objects. Pure.
//!
//! The emulator's own layout (`docs/formats.md` 2), with kinds percent-encoded where a file name
//! could not hold them: the importer takes paths from the metadata and kinds from the keys.

use crate::export::metadata::{
    ExportMetadata, KindFiles, NamespaceSpec, OverallMetadata, PartPointer,
};
use crate::model::{Kind, KindRef, Timestamp, file_name, truncate_name};

/// How the completion marker's name ends.
pub const OVERALL_SUFFIX: &str = ".overall_export_metadata";

/// One export of one kind or all kinds, in one namespace or in all of them.
#[derive(Debug, Clone)]
pub struct ManagedExport {
    kind: Option<Kind>,
    namespace: NamespaceSpec,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
}

impl ManagedExport {
    /// The export of one pair.
    pub fn from_pair(
        pair: &KindRef,
        started: Option<Timestamp>,
        finished: Option<Timestamp>,
    ) -> Self {
        ManagedExport {
            kind: Some(pair.kind.clone()),
            namespace: NamespaceSpec::One(pair.namespace.clone()),
            started,
            finished,
        }
    }

    /// The export of outputs that may mix several kinds and namespaces.
    pub fn from_pairs(
        pairs: &[KindRef],
        started: Option<Timestamp>,
        finished: Option<Timestamp>,
    ) -> Self {
        let first = pairs.first();
        let kind = first
            .map(|pair| &pair.kind)
            .filter(|kind| pairs.iter().all(|pair| pair.kind == **kind))
            .cloned();
        let namespace = first
            .map(|pair| &pair.namespace)
            .filter(|namespace| pairs.iter().all(|pair| pair.namespace == **namespace));
        let namespace = namespace.map_or(NamespaceSpec::All, |namespace| {
            NamespaceSpec::One(namespace.clone())
        });
        ManagedExport {
            kind,
            namespace,
            started,
            finished,
        }
    }

    /// The name of the export, which its folder must bear: its start, such as
    /// `2013-10-12T06:37:42_287`.
    pub fn name(&self) -> String {
        self.started.map_or_else(
            || "export".to_owned(),
            |started| {
                let t = started.civil();
                let millis = t.subsec_nanosecond() / 1_000_000;
                format!(
                    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}_{millis:03}",
                    t.year(),
                    t.month(),
                    t.day(),
                    t.hour(),
                    t.minute(),
                    t.second()
                )
            },
        )
    }

    fn namespace_label(&self) -> String {
        match &self.namespace {
            NamespaceSpec::All => "all_namespaces".to_owned(),
            NamespaceSpec::One(namespace) if namespace.is_default() => {
                "default_namespace".to_owned()
            }
            NamespaceSpec::One(namespace) => format!("namespace_{}", file_name(namespace.as_str())),
        }
    }

    fn kind_label(&self) -> String {
        self.kind.as_ref().map_or_else(
            || "all_kinds".to_owned(),
            |kind| truncate_name(format!("kind_{}", file_name(kind.as_str()))),
        )
    }

    /// The completion marker, below the export's folder.
    pub fn overall_path(&self) -> String {
        format!("{}{OVERALL_SUFFIX}", self.name())
    }

    /// The metadata of the kind, below the export's folder.
    pub fn metadata_path(&self) -> String {
        let (namespace, kind) = (self.namespace_label(), self.kind_label());
        format!(
            "{namespace}/{kind}/{}.export_metadata",
            truncate_name(format!("{namespace}_{kind}"))
        )
    }

    /// The output of that number, below the export's folder.
    pub fn output_path(&self, number: usize) -> String {
        format!(
            "{}/{}/output-{number}",
            self.namespace_label(),
            self.kind_label()
        )
    }

    /// The bytes of the kind's metadata, for that many outputs.
    pub fn metadata(&self, outputs: usize) -> Vec<u8> {
        let files = (0..outputs)
            .map(|number| format!("output-{number}"))
            .collect();
        let kind = self
            .kind
            .as_ref()
            .map(|kind| kind.as_str().to_owned())
            .unwrap_or_default();
        let kinds = vec![KindFiles { kind, files }];
        ExportMetadata {
            name: self.name(),
            started: self.started,
            finished: self.finished,
            kinds,
        }
        .encode()
    }

    /// The bytes of the completion marker, for entities with records of so many bytes: the service counts
    /// records, and no emulator compares.
    pub fn overall(&self, entities: u64, record_bytes: u64) -> Vec<u8> {
        let pointer = PartPointer {
            kind: self.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            namespace: self.namespace.clone(),
            metadata_file: self.metadata_path(),
            entities,
            bytes: record_bytes,
        };
        OverallMetadata {
            pointers: vec![pointer],
        }
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_emulator() {
        let export = ManagedExport::from_pair(
            &KindRef::new("acme", "User"),
            Timestamp::from_micros(1_381_559_862_287_654),
            None,
        );
        assert_eq!(
            export.overall_path(),
            "2013-10-12T06:37:42_287.overall_export_metadata"
        );
        assert_eq!(
            export.metadata_path(),
            "namespace_acme/kind_User/namespace_acme_kind_User.export_metadata"
        );
        assert_eq!(export.output_path(10), "namespace_acme/kind_User/output-10");
        let slashed = ManagedExport::from_pairs(
            &[KindRef::new("", "a/../b"), KindRef::new("acme", "a/../b")],
            None,
            None,
        );
        assert_eq!(
            slashed.output_path(0),
            "all_namespaces/kind_a%2F..%2Fb/output-0"
        );
    }

    #[test]
    fn outputs_of_several_kinds_export_all_kinds() {
        let export = ManagedExport::from_pairs(
            &[KindRef::new("acme", "Order"), KindRef::new("acme", "User")],
            None,
            None,
        );
        assert_eq!(
            export.metadata_path(),
            "namespace_acme/all_kinds/namespace_acme_all_kinds.export_metadata"
        );
        let overall = OverallMetadata::parse(&export.overall(3, 90)).unwrap();
        assert_eq!(
            (
                overall.pointers[0].kind.as_deref(),
                overall.pointers[0].bytes
            ),
            (None, 90)
        );
        assert_eq!(
            ExportMetadata::parse(&export.metadata(1)).unwrap().kinds[0].kind,
            ""
        );
    }
}
