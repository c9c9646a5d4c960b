//! What is in a database: its namespaces, their kinds, and how much the built-in statistics count.
//!
//! Knows the metadata kinds `__namespace__`, `__kind__` and `__Stat_…__`. Which kinds matter is for
//! the caller to decide.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::client::{CallTimeouts, DatastoreClient};
use super::error::DatastoreError;
#[cfg(feature = "test-util")]
use super::query::QueryPage;
use crate::google::{Credentials, may_see_tokens};
use crate::model::{Kind, Namespace, Timestamp};

/// One call to an emulator, answer included.
const EMULATOR_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The id of the default namespace among the others' names.
const DEFAULT_NAMESPACE_ID: &str = "1";

/// Statistics of each kind of one namespace, and of each kind of the database.
const NAMESPACE_STATISTICS: &str = "__Stat_Ns_Kind__";
const STATISTICS: &str = "__Stat_Kind__";

/// Reads the kinds of one database.
#[derive(Debug, Clone)]
pub struct KindReader {
    client: Arc<DatastoreClient>,
}

/// What the service's own statistics count of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStatistics {
    /// The namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Entities.
    pub entities: u64,
    /// Bytes of the entities, without indexes where the service tells them apart.
    pub bytes: u64,
    /// When they were counted.
    pub time: Timestamp,
}

impl KindReader {
    /// The emulator at `host`, such as `127.0.0.1:8081`, and a project in it. Calls are tried for
    /// `retry_timeout`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn with_emulator(
        host: &str,
        project: &str,
        retry_timeout: Duration,
    ) -> Result<Self, DatastoreError> {
        let timeouts = CallTimeouts {
            call: EMULATOR_CALL_TIMEOUT,
            retry: retry_timeout,
        };
        KindReader::new(&format!("http://{host}"), project, None, None, timeouts)
    }

    /// A database of the real service at `endpoint`, such as `https://datastore.googleapis.com`;
    /// the default one where none is named. One call may last `call_timeout`, all attempts of it
    /// together `retry_timeout`.
    ///
    /// # Errors
    /// [`DatastoreError::Unauthorized`] where a token would go over the net as it is, and when no
    /// HTTP client can be made.
    pub fn with_service(
        project: &str,
        database: Option<&str>,
        endpoint: &str,
        credentials: Arc<Credentials>,
        call_timeout: Duration,
        retry_timeout: Duration,
    ) -> Result<Self, DatastoreError> {
        if !may_see_tokens(endpoint) {
            return Err(DatastoreError::Unauthorized {
                call: "credentials".to_owned(),
                fault: "no token is sent to an address of Datastore without TLS",
            });
        }
        let timeouts = CallTimeouts {
            call: call_timeout,
            retry: retry_timeout,
        };
        let endpoint = endpoint.trim_end_matches('/');
        KindReader::new(endpoint, project, database, Some(credentials), timeouts)
    }

    fn new(
        base: &str,
        project: &str,
        database: Option<&str>,
        credentials: Option<Arc<Credentials>>,
        timeouts: CallTimeouts,
    ) -> Result<Self, DatastoreError> {
        let database = database.unwrap_or_default().to_owned();
        let (base, project) = (base.to_owned(), project.to_owned());
        let client = DatastoreClient::new(base, project, database, credentials, timeouts)?;
        Ok(KindReader {
            client: Arc::new(client),
        })
    }

    /// The namespaces that hold entities, in order.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>, DatastoreError> {
        let entities = self.all("", "__namespace__", true).await?;
        let names: Option<Vec<Namespace>> = entities.iter().map(namespace_of).collect();
        names.ok_or_else(|| unexpected("names of namespaces"))
    }

    /// The kinds of a namespace that hold entities, in order; those that begin with `_` too.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    pub async fn kinds(&self, namespace: &Namespace) -> Result<Vec<Kind>, DatastoreError> {
        let entities = self.all(namespace.as_str(), "__kind__", true).await?;
        let kinds: Option<Vec<Kind>> = entities
            .iter()
            .map(|entity| Some(Kind::new(last(entity)?.get("name")?.as_str()?)))
            .collect();
        kinds.ok_or_else(|| unexpected("names of kinds"))
    }

    /// What the built-in statistics count of the kinds of a namespace; nothing where there are none,
    /// as in an emulator or a new database. They may be days old.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    pub async fn statistics(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<KindStatistics>, DatastoreError> {
        let entities = self
            .all(namespace.as_str(), NAMESPACE_STATISTICS, false)
            .await?;
        Ok(statistics_of(namespace, &entities))
    }

    /// The same of all namespaces together, for a database that has no others than the default one.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    pub async fn total_statistics(&self) -> Result<Vec<KindStatistics>, DatastoreError> {
        let entities = self.all("", STATISTICS, false).await?;
        Ok(statistics_of(&Namespace::default(), &entities))
    }

    /// Refuses an emulator that lists no kinds.
    async fn check_lists_kinds(&self) -> Result<(), DatastoreError> {
        match self.client.emulator_product().await? {
            Some(product) if !product.exports_kinds() => Err(DatastoreError::NoKindList {
                call: self.client.call("list of kinds"),
                product,
            }),
            _ => Ok(()),
        }
    }

    /// All results of a query, page by page.
    async fn all(
        &self,
        namespace: &str,
        kind: &str,
        keys_only: bool,
    ) -> Result<Vec<Value>, DatastoreError> {
        self.check_lists_kinds().await?;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .query_page(namespace, kind, keys_only, cursor.as_deref())
                .await?;
            all.extend(page.entities);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

/// The last element of an entity's key.
fn last(entity: &Value) -> Option<&Value> {
    entity.pointer("/key/path")?.as_array()?.last()
}

/// The namespace that a result of `__namespace__` stands for.
fn namespace_of(entity: &Value) -> Option<Namespace> {
    let element = last(entity)?;
    match element.get("name") {
        Some(name) => Some(Namespace::new(name.as_str()?)),
        None => (element.get("id")?.as_str()? == DEFAULT_NAMESPACE_ID).then(Namespace::default),
    }
}

/// Reads a page of a query, and its entities as statistics: for `fuzzing`.
#[cfg(feature = "test-util")]
pub(crate) fn read_statistics(body: &[u8]) -> Option<Vec<KindStatistics>> {
    let answer = serde_json::from_slice(body).ok()?;
    let page = QueryPage::from_answer(answer, None).ok()?;
    page.entities
        .iter()
        .for_each(|entity| drop(namespace_of(entity)));
    Some(statistics_of(&Namespace::default(), &page.entities))
}

/// Statistics that can be read; a row of another form is left out, because it only informs.
fn statistics_of(namespace: &Namespace, entities: &[Value]) -> Vec<KindStatistics> {
    let rows = entities.iter();
    rows.filter_map(|entity| KindStatistics::from_entity(namespace, entity))
        .collect()
}

impl KindStatistics {
    fn from_entity(namespace: &Namespace, entity: &Value) -> Option<Self> {
        let value = |name: &str, field: &str| {
            let property = entity.get("properties")?.get(name)?;
            property.get(field)?.as_str()
        };
        let number = |name: &str| value(name, "integerValue")?.parse().ok();
        Some(KindStatistics {
            namespace: namespace.clone(),
            kind: Kind::new(value("kind_name", "stringValue")?),
            entities: number("count")?,
            bytes: number("entity_bytes").or_else(|| number("bytes"))?,
            time: value("timestamp", "timestampValue")?.parse().ok()?,
        })
    }
}

fn unexpected(missing: &'static str) -> DatastoreError {
    DatastoreError::UnexpectedResponse {
        call: "runQuery".to_owned(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn default_namespace_is_the_one_with_an_id() {
        let of = |element: Value| namespace_of(&json!({"key": {"path": [element]}}));
        let default = json!({"kind": "__namespace__", "id": "1"});
        assert_eq!(of(default), Some(Namespace::default()));
        let named = json!({"kind": "__namespace__", "name": "acme"});
        assert_eq!(of(named), Some(Namespace::new("acme")));
        assert_eq!(of(json!({"kind": "__namespace__", "id": "2"})), None);
        assert_eq!(namespace_of(&json!({})), None);
    }

    #[test]
    fn statistics_prefer_the_bytes_of_entities_alone() {
        let mut entity = json!({"properties": {
            "kind_name": {"stringValue": "User"}, "count": {"integerValue": "3"},
            "bytes": {"integerValue": "900"}, "entity_bytes": {"integerValue": "600"},
            "timestamp": {"timestampValue": "2026-11-22T06:37:42Z"}}});
        let namespace = Namespace::new("acme");
        let read = |entity: &Value| KindStatistics::from_entity(&namespace, entity);
        assert_eq!(
            read(&entity).map(|row| (row.entities, row.bytes)),
            Some((3, 600))
        );
        let fields = entity.pointer_mut("/properties").unwrap();
        fields.as_object_mut().unwrap().remove("entity_bytes");
        assert_eq!(read(&entity).map(|row| row.bytes), Some(900));
        let fields = entity.pointer_mut("/properties").unwrap();
        fields["count"]["integerValue"] = "many".into();
        assert_eq!(read(&entity), None);
    }
}
