//! A long-running operation as the service tells of it (`google.longrunning.Operation`). Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::datastore::status::Code;
use crate::google::refusal::refusal;

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
    /// It has ended without; what it had written by then is in the target.
    Failed(String),
    /// The service knows of no such operation.
    Unknown,
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OperationMetadata {
    common: CommonMetadata,
    progress_entities: WorkProgress,
    progress_bytes: WorkProgress,
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
    #[serde(deserialize_with = "number")]
    work_completed: u64,
    #[serde(deserialize_with = "number")]
    work_estimated: u64,
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
        self.metadata.common.operation_type == "IMPORT_ENTITIES"
    }

    pub(super) fn state(&self) -> OperationState {
        let OperationMetadata {
            common,
            progress_entities,
            progress_bytes,
        } = &self.metadata;
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
        match (&self.error, common.state.as_str()) {
            (_, "CANCELLED") => OperationState::Failed("cancelled".to_owned()),
            (None, "FAILED") => OperationState::Failed("failed without words".to_owned()),
            (None, _) if self.response.is_some() || common.state == "SUCCESSFUL" => {
                OperationState::Succeeded
            }
            (None, state) => {
                OperationState::Failed(format!("ended without a result, in state {state:?}"))
            }
            (Some(error), _) => OperationState::Failed(refusal(
                &Code::from_number(error.code).to_string(),
                &error.message,
            )),
        }
    }
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
            OperationState::Failed("cancelled".to_owned())
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
        assert_eq!(
            done(error),
            OperationState::Failed("INVALID_ARGUMENT: Failed parse entity file".to_owned())
        );
    }
}
