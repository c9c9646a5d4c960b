//! A long-running operation as the service tells of it (`google.longrunning.Operation`). Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use super::advice::advice;
use crate::datastore::status::Code;
use crate::google::refusal::{refusal, refusal_in_full};

/// How much of an import is done, as the service estimates it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationProgress {
    /// Entities, or bytes where entities are not told.
    pub done: u64,
    /// Of so many; 0 where nothing is known.
    pub total: u64,
}

/// Where an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationState {
    /// It goes on.
    Running(OperationProgress),
    /// Everything is in the target.
    Succeeded,
    /// It has ended without success; what it had written by then stays.
    Failed(OperationFailure),
    /// The service knows of no such operation.
    Unknown,
}

/// Why an operation has ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationFailure {
    /// The service's code.
    pub code: Code,
    /// The code and those of the service's words that hold nobody's data, in one line.
    pub message: String,
    /// Whether the same request may succeed if it is started again.
    pub is_transient: bool,
    /// What to do about it: a sentence that begins with a verb.
    pub advice: Option<String>,
}

/// What is read of an operation; everything else is passed over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Operation {
    pub(super) name: String,
    done: bool,
    error: Option<OperationError>,
    response: Option<serde_json::Value>,
    metadata: OperationMetadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OperationError {
    code: u64,
    message: String,
}

/// As Datastore Admin gives it (`common`, entities, URLs) or Firestore Admin (all on one level,
/// documents, URIs).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OperationMetadata {
    #[serde(rename = "@type")]
    message: String,
    common: CommonMetadata,
    operation_state: String,
    #[serde(alias = "progressDocuments")]
    progress_entities: WorkProgress,
    progress_bytes: WorkProgress,
    #[serde(alias = "inputUri", alias = "inputUriPrefix")]
    input_url: String,
    #[serde(alias = "outputUriPrefix")]
    output_url_prefix: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CommonMetadata {
    operation_type: String,
    labels: BTreeMap<String, String>,
    state: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkProgress {
    #[serde(deserialize_with = "number", alias = "completedWork")]
    work_completed: u64,
    #[serde(deserialize_with = "number", alias = "estimatedWork")]
    work_estimated: u64,
}

/// Whether two addresses name one folder.
fn is_same_place(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// 64-bit numbers come as text. What is only shown is no reason to fail.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .unwrap_or_default())
}

impl Operation {
    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.metadata.common.labels
    }

    /// Whether it is an import; the service lists exports and changes of indexes as well.
    pub(super) fn is_import(&self) -> bool {
        let OperationMetadata {
            common, message, ..
        } = &self.metadata;
        common.operation_type == "IMPORT_ENTITIES" || message.ends_with(".ImportDocumentsMetadata")
    }

    /// Whether it is an export.
    pub(super) fn is_export(&self) -> bool {
        let OperationMetadata {
            common, message, ..
        } = &self.metadata;
        common.operation_type == "EXPORT_ENTITIES" || message.ends_with(".ExportDocumentsMetadata")
    }

    /// Whether it reads its import there.
    pub(super) fn reads_from(&self, address: &str) -> bool {
        is_same_place(&self.metadata.input_url, address)
    }

    /// Whether it writes its export there.
    pub(super) fn writes_to(&self, address: &str) -> bool {
        is_same_place(&self.metadata.output_url_prefix, address)
    }

    pub(super) fn state(&self) -> OperationState {
        let OperationMetadata {
            common,
            operation_state,
            progress_entities,
            progress_bytes,
            ..
        } = &self.metadata;
        let state = if common.state.is_empty() {
            operation_state
        } else {
            &common.state
        };
        if !self.done {
            let shown = if progress_entities.work_completed > 0 {
                progress_entities
            } else {
                progress_bytes
            };
            return OperationState::Running(OperationProgress {
                done: shown.work_completed,
                total: shown.work_estimated,
            });
        }
        match (&self.error, state.as_str()) {
            (_, "CANCELLED") => OperationFailure::new("cancelled").into(),
            (None, "FAILED") => OperationFailure::new("failed without words").into(),
            (None, _) if self.response.is_some() || state == "SUCCESSFUL" => {
                OperationState::Succeeded
            }
            (None, state) => {
                OperationFailure::new(format!("ended without a result, in state {state:?}")).into()
            }
            (Some(error), _) => self.failure(error).into(),
        }
    }

    /// The service's words about an export hold nobody's data. Those about an import may name keys.
    fn failure(&self, status: &OperationError) -> OperationFailure {
        let (code, words) = (Code::from_number(status.code), status.message.as_str());
        let show = if self.is_export() {
            refusal_in_full
        } else {
            refusal
        };
        OperationFailure {
            code,
            is_transient: is_transient(code, words),
            advice: advice(code, words).map(str::to_owned),
            ..OperationFailure::new(show(&code.to_string(), words))
        }
    }
}

impl OperationFailure {
    /// A failure that the service gives no code for.
    fn new(message: impl Into<String>) -> Self {
        OperationFailure {
            code: Code::Other,
            message: message.into(),
            is_transient: false,
            advice: None,
        }
    }
}

impl From<OperationFailure> for OperationState {
    fn from(failure: OperationFailure) -> Self {
        OperationState::Failed(failure)
    }
}

impl fmt::Display for OperationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What can be shown of an import; none where it is no import: for `fuzzing`.
#[cfg(feature = "test-util")]
pub(crate) fn read_import(body: &[u8]) -> Option<String> {
    let operation: Operation = serde_json::from_slice(body).ok()?;
    let state = operation.state();
    (!operation.is_export()).then(|| format!("{state:?}"))
}

/// Errors of App Engine's old interface that pass: a time that is over (105, 7) and a transaction
/// that was in another one's way (6).
const PASSING: [&str; 3] = [
    "ApplicationError: 105",
    "ApplicationError: 7",
    "ApplicationError: 6",
];

/// Whether what a service says may be different at the next attempt.
pub(super) fn is_transient(code: Code, words: &str) -> bool {
    let passes = matches!(
        code,
        Code::Aborted
            | Code::Unavailable
            | Code::Internal
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    );
    passes
        || PASSING
            .iter()
            .any(|error| is_application_error(words, error))
}

/// Whether words hold an error with this very number.
fn is_application_error(words: &str, error: &str) -> bool {
    words
        .match_indices(error)
        .filter_map(|(at, found)| words.get(at + found.len()..))
        .any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Operation {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn unfinished_operation_is_running_in_any_state() {
        for state in [
            "STATE_UNSPECIFIED",
            "INITIALIZING",
            "PROCESSING",
            "CANCELLING",
            "FINALIZING",
            "NEW_IN_2030",
        ] {
            let operation = read(json!({"name": "projects/p/operations/o", "metadata": {
                "common": {"state": state, "operationType": "IMPORT_ENTITIES", "startTime": "2025-11-22T10:00:01Z"},
                "progressEntities": {"workCompleted": "12", "workEstimated": "40"},
                "progressBytes": {"workCompleted": "900", "workEstimated": "4000"}}}));
            assert_eq!(
                operation.state(),
                OperationState::Running(OperationProgress {
                    done: 12,
                    total: 40
                }),
                "{state}"
            );
            assert!(operation.is_import());
        }
    }

    #[test]
    fn progress_prefers_entities_over_bytes() {
        let bytes =
            json!({"metadata": {"progressBytes": {"workCompleted": 900, "workEstimated": "4000"}}});
        assert_eq!(
            read(bytes).state(),
            OperationState::Running(OperationProgress {
                done: 900,
                total: 4000
            })
        );
        assert_eq!(
            read(json!({})).state(),
            OperationState::Running(OperationProgress::default())
        );
        let odd = json!({"metadata": {"progressEntities": {"workCompleted": "-1", "workEstimated": null}}});
        assert_eq!(
            read(odd).state(),
            OperationState::Running(OperationProgress::default())
        );
    }

    #[test]
    fn firestore_metadata_is_read_the_same() {
        let metadata = json!({
            "@type": "type.googleapis.com/google.firestore.admin.v1.ExportDocumentsMetadata",
            "startTime": "2025-11-22T10:00:01Z", "operationState": "PROCESSING",
            "progressDocuments": {"estimatedWork": "40", "completedWork": "12"},
            "collectionIds": ["User"], "namespaceIds": [""], "outputUriPrefix": "gs://b/x/User"});
        let mut operation = read(json!({"name": "o", "metadata": metadata}));
        assert!(operation.is_export() && !operation.is_import());
        assert!(operation.writes_to("gs://b/x/User/") && !operation.writes_to("gs://b/x/User~2"));
        assert_eq!(
            operation.state(),
            OperationState::Running(OperationProgress {
                done: 12,
                total: 40
            })
        );
        operation.done = true;
        operation.metadata.operation_state = "SUCCESSFUL".to_owned();
        assert_eq!(operation.state(), OperationState::Succeeded);
        let import = json!({"metadata": {
            "@type": "type.googleapis.com/google.firestore.admin.v1.ImportDocumentsMetadata",
            "inputUriPrefix": "gs://b/x/User"}});
        assert!(read(import.clone()).is_import() && read(import).reads_from("gs://b/x/User"));
    }

    #[test]
    fn success_is_believed_only_where_it_is_said() {
        let done = |rest: Value| {
            let mut value = json!({"name": "o", "done": true});
            value
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            read(value).state()
        };
        assert_eq!(done(json!({"response": {}})), OperationState::Succeeded);
        assert_eq!(
            done(json!({"metadata": {"common": {"state": "SUCCESSFUL"}}})),
            OperationState::Succeeded
        );
        assert_eq!(
            done(json!({"metadata": {"common": {"state": "CANCELLED"}}})),
            OperationFailure::new("cancelled").into()
        );
        for failed in [
            json!({}),
            json!({"metadata": {"common": {"state": "PROCESSING"}}}),
            json!({"metadata": {"common": {"state": "FAILED"}}, "response": {}}),
            json!({"error": {}, "response": {}}),
        ] {
            assert!(
                matches!(done(failed.clone()), OperationState::Failed(_)),
                "{failed}"
            );
        }
        let error = json!({"error": {"code": 3, "message": "Failed parse entity file: \"ann@example.com\""}});
        assert!(matches!(
            done(error),
            OperationState::Failed(failure) if failure.code == Code::InvalidArgument
                && failure.message == "INVALID_ARGUMENT: Failed parse entity file"
        ));
    }

    #[test]
    fn failed_export_shows_the_services_words() {
        let failed = |operation: &str| {
            let state = read(json!({
                "done": true,
                "error": {"code": 9, "message": "Kind \"User\" is being deleted."},
                "metadata": {"common": {"operationType": operation}}}))
            .state();
            let OperationState::Failed(failure) = state else {
                panic!("{state:?}");
            };
            failure.message
        };
        assert_eq!(
            failed("EXPORT_ENTITIES"),
            "FAILED_PRECONDITION: Kind \"User\" is being deleted."
        );
        assert_eq!(failed("IMPORT_ENTITIES"), "FAILED_PRECONDITION");
    }

    #[test]
    fn old_application_errors_are_transient() {
        for (words, passes) in [
            ("API error 105 (ApplicationError: 105 )", true),
            ("ApplicationError: 7", true),
            ("(ApplicationError: 6 busy)", true),
            ("ApplicationError: 60 and ApplicationError: 71", false),
            ("", false),
        ] {
            assert_eq!(is_transient(Code::Other, words), passes, "{words}");
        }
        assert!(is_transient(Code::Aborted, "") && !is_transient(Code::PermissionDenied, ""));
    }
}
