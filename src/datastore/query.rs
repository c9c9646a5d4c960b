//! A query of Datastore v1, page by page.

use serde_json::{Value, json};

use super::client::{DatastoreClient, JsonResponse};
use super::error::DatastoreError;

/// Results a page. The service may give fewer.
const PAGE: u32 = 1_000;

const CALL: &str = "runQuery";

/// One page of the results of a query.
#[derive(Debug)]
pub(crate) struct QueryPage {
    /// The entities; only their keys where only those are requested.
    pub(crate) entities: Vec<Value>,
    /// Where the next page starts; none at the end.
    pub(crate) cursor: Option<String>,
}

impl DatastoreClient {
    /// The entities of a kind in a namespace from a cursor on.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    pub(crate) async fn query_page(
        &self,
        namespace: &str,
        kind: &str,
        keys_only: bool,
        cursor: Option<&str>,
    ) -> Result<QueryPage, DatastoreError> {
        let mut query = json!({"kind": [{"name": kind}], "limit": PAGE});
        if keys_only {
            set(
                &mut query,
                "projection",
                json!([{"property": {"name": "__key__"}}]),
            );
        }
        if let Some(cursor) = cursor {
            set(&mut query, "startCursor", cursor.into());
        }
        let body = json!({"partitionId": self.partition(namespace), "query": query});
        match self.json(CALL, &body).await? {
            JsonResponse::Ok(answer) => QueryPage::from_answer(answer, cursor),
            JsonResponse::Unavailable => Err(DatastoreError::UnknownCall {
                call: self.call(CALL),
            }),
        }
    }
}

impl QueryPage {
    pub(super) fn from_answer(
        mut answer: Value,
        cursor: Option<&str>,
    ) -> Result<Self, DatastoreError> {
        let entities = entities_of(&mut answer).ok_or_else(|| unexpected("entities"))?;
        let text = |field: &str| answer.pointer(field).and_then(Value::as_str);
        // `moreResults` says that there are more even on the last page.
        let is_last = text("/batch/moreResults") == Some("NO_MORE_RESULTS");
        if entities.is_empty() || is_last {
            let cursor = None;
            return Ok(QueryPage { entities, cursor });
        }
        let next = text("/batch/endCursor").filter(|next| Some(*next) != cursor);
        let next = next.ok_or_else(|| unexpected("cursor for the next page"))?;
        let cursor = Some(next.to_owned());
        Ok(QueryPage { entities, cursor })
    }
}

fn entities_of(answer: &mut Value) -> Option<Vec<Value>> {
    let Some(results) = answer.pointer_mut("/batch/entityResults") else {
        return Some(Vec::new());
    };
    let results = results.as_array_mut()?;
    results
        .iter_mut()
        .map(|result| result.get_mut("entity").map(Value::take))
        .collect()
}

fn set(query: &mut Value, field: &str, value: Value) {
    if let Some(fields) = query.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn unexpected(missing: &'static str) -> DatastoreError {
    DatastoreError::UnexpectedResponse {
        call: CALL.to_owned(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(batch: Value, cursor: Option<&str>) -> Result<QueryPage, DatastoreError> {
        QueryPage::from_answer(json!({"batch": batch}), cursor)
    }

    #[test]
    fn paging_ends_at_an_empty_page() {
        let one = json!([{"entity": {"key": {}}}]);
        let more = json!({"entityResults": one, "endCursor": "b", "moreResults": "NOT_FINISHED"});
        assert_eq!(
            page(more.clone(), Some("a")).unwrap().cursor.as_deref(),
            Some("b")
        );
        let last =
            json!({"entityResults": one, "endCursor": "b", "moreResults": "NO_MORE_RESULTS"});
        assert_eq!(page(last, None).unwrap().cursor, None);
        let empty = json!({"endCursor": "b", "moreResults": "MORE_RESULTS_AFTER_LIMIT"});
        assert!(page(empty, Some("b")).unwrap().entities.is_empty());
        assert!(page(more, Some("b")).is_err(), "the cursor stands still");
    }

    #[test]
    fn malformed_answers_are_refused() {
        for batch in [
            json!({"entityResults": {}}),
            json!({"entityResults": [{}]}),
            json!({"entityResults": [{"entity": {}}], "endCursor": 3}),
        ] {
            assert!(page(batch.clone(), None).is_err(), "{batch}");
        }
    }
}
