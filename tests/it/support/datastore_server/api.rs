//! What each call does and answers. Words of refusals are those of Google's emulator where it has
//! them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kindpack::model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::call_of;
use super::{Call, PAGE, State, Stored, proto};

/// Where an entity stands: namespace and path. Ids come before names, as the service orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoredKey {
    namespace: String,
    path: Vec<(String, Name)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Name {
    Incomplete,
    Id(i64),
    Text(String),
}

impl StoredKey {
    /// The key of that JSON.
    pub fn of(key: &Value) -> Option<Self> {
        let element = |element: &Value| {
            let id = match (element["id"].as_str(), element["name"].as_str()) {
                (Some(id), None) => Name::Id(id.parse().ok()?),
                (None, Some(name)) => Name::Text(name.to_owned()),
                (None, None) => Name::Incomplete,
                _ => return None,
            };
            Some((element["kind"].as_str()?.to_owned(), id))
        };
        let path: Option<Vec<_>> = key["path"].as_array()?.iter().map(element).collect();
        let namespace = key["partitionId"]["namespaceId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        path.filter(|path| !path.is_empty())
            .map(|path| StoredKey { namespace, path })
    }

    fn last(&self) -> &(String, Name) {
        self.path.last().unwrap()
    }

    /// Whether it is of that kind and namespace.
    pub fn is_of(&self, namespace: &str, kind: &str) -> bool {
        self.namespace == namespace && self.last().0 == kind
    }

    fn words(&self) -> String {
        let word = |(kind, name): &(String, Name)| match name {
            Name::Incomplete => format!("{kind}: "),
            Name::Id(id) => format!("{kind}:{id}"),
            Name::Text(text) => format!("{kind}:\"{text}\""),
        };
        self.path.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

/// A request, understood.
pub(super) struct Asked {
    pub(super) call: Call,
    method: String,
    pub(super) project: String,
    is_message: bool,
    /// In JSON; null where it could not be read.
    body: Value,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As what stands before the service answers by itself.
    pub(super) fn front_end(status: u16) -> Self {
        let body = format!(
            "<!DOCTYPE html><html lang=en><title>Error {status}</title><p>That’s an error.</html>"
        );
        Answer {
            status,
            headers: vec![("content-type", "text/html; charset=UTF-8".to_owned())],
            body: body.into(),
        }
    }
}

impl Asked {
    pub(super) fn parse(verb: &str, path: &str, is_message: bool, body: &[u8]) -> Option<Self> {
        if verb != "POST" {
            return None;
        }
        if path == "/token" {
            return Some(Asked {
                call: Call::Token,
                method: "token".to_owned(),
                project: String::new(),
                is_message,
                body: Value::Null,
            });
        }
        let (project, method) = path.strip_prefix("/v1/projects/")?.split_once(':')?;
        let fields = proto::messages(method)?.0;
        let body = if is_message {
            proto::decode(body, fields)
        } else {
            serde_json::from_slice(body)
                .ok()
                .filter(|body| !proto::is_foreign(body, fields))
        };
        Some(Asked {
            call: call_of(method)?,
            method: method.to_owned(),
            project: project.to_owned(),
            is_message,
            body: body.unwrap_or_default(),
        })
    }

    pub(super) fn database(&self) -> &str {
        self.body["databaseId"].as_str().unwrap_or_default()
    }

    fn list(&self, field: &str) -> &[Value] {
        self.body[field].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn items(&self) -> usize {
        self.list(if self.call == Call::Commit {
            "mutations"
        } else {
            "keys"
        })
        .len()
    }

    fn ok(&self, value: &Value) -> Answer {
        let (content_type, body) = if self.is_message {
            (
                "application/x-protobuf",
                proto::encode(value, proto::messages(&self.method).unwrap().1),
            )
        } else {
            (
                "application/json; charset=UTF-8",
                format!("{value:#}").into_bytes(),
            )
        };
        Answer {
            status: 200,
            headers: vec![("content-type", content_type.to_owned())],
            body,
        }
    }

    pub(super) fn refuse(&self, status: u16, message: &str) -> Answer {
        let (number, name) = match (status, message) {
            (400, _) => (3, "INVALID_ARGUMENT"),
            (401, _) => (16, "UNAUTHENTICATED"),
            (403, _) => (7, "PERMISSION_DENIED"),
            (404, _) => (5, "NOT_FOUND"),
            (409, "entity already exists") => (6, "ALREADY_EXISTS"),
            (409, _) => (10, "ABORTED"),
            (429, _) => (8, "RESOURCE_EXHAUSTED"),
            (500, _) => (13, "INTERNAL"),
            (504, _) => (4, "DEADLINE_EXCEEDED"),
            _ => (14, "UNAVAILABLE"),
        };
        self.status(status, number, name, message, None)
    }

    fn status(
        &self,
        status: u16,
        number: u32,
        name: &str,
        message: &str,
        retry_millis: Option<u64>,
    ) -> Answer {
        let (content_type, body) = if self.is_message {
            (
                "application/x-protobuf",
                proto::status(number, message, retry_millis),
            )
        } else {
            let mut error = json!({"code": status, "message": message, "status": name});
            if let Some(millis) = retry_millis {
                let delay = format!("{}.{:03}s", millis / 1_000, millis % 1_000);
                error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
            }
            (
                "application/json; charset=UTF-8",
                json!({"error": error}).to_string().into_bytes(),
            )
        };
        Answer {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body,
        }
    }

    /// As the service words it where the fault is its own or the load's.
    pub(super) fn trouble(&self, status: u16, retry_millis: Option<u64>) -> Answer {
        let (number, name, message) = match status {
            401 => (
                16,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials.",
            ),
            403 => (
                7,
                "PERMISSION_DENIED",
                "Missing or insufficient permissions.",
            ),
            409 => (
                10,
                "ABORTED",
                "too much contention on these datastore entities. please try again. entity groups: [(app=s~shop, Note, \"CANARY\")]",
            ),
            429 => (
                8,
                "RESOURCE_EXHAUSTED",
                "Quota exceeded for quota metric 'Entity Writes'.",
            ),
            500 => (13, "INTERNAL", "An internal error occurred."),
            504 => (
                4,
                "DEADLINE_EXCEEDED",
                "The datastore operation timed out, or the data was temporarily unavailable.",
            ),
            _ => (14, "UNAVAILABLE", "The service is temporarily unavailable."),
        };
        self.status(status, number, name, message, retry_millis)
    }
}

/// The token of that number.
fn token(number: usize) -> String {
    format!("Bearer CANARY-TOKEN-{number}")
}

/// Another number every time, as the service has times for.
fn time(state: &State) -> String {
    let now = (jiff::Timestamp::now() + state.ahead).as_microsecond();
    Timestamp::from_micros(now).unwrap().to_string()
}

type Refusal = (u16, String);

fn bad(message: impl Into<String>) -> Refusal {
    (400, message.into())
}

pub(super) fn answer(
    state: &mut State,
    asked: &Asked,
    authorization: &str,
    params: &str,
) -> Answer {
    if asked.call == Call::Token {
        state.tokens += 1;
        let (kind, token) = token(state.tokens)
            .split_once(' ')
            .map(|(kind, token)| (kind.to_owned(), token.to_owned()))
            .unwrap();
        let body =
            json!({"access_token": token, "expires_in": 3_600, "token_type": kind}).to_string();
        return Answer {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.into(),
        };
    }
    if state.revoked.contains(authorization)
        || !(1..=state.tokens).any(|number| authorization == token(number))
    {
        return asked.trouble(401, None);
    }
    if state.denied {
        return asked.trouble(403, None);
    }
    match tried(state, asked, params) {
        Ok(value) => asked.ok(&value),
        Err((status, message)) => asked.refuse(status, &message),
    }
}

fn tried(state: &mut State, asked: &Asked, params: &str) -> Result<Value, Refusal> {
    if asked.body.is_null() {
        return Err(bad("Payload isn't valid for request."));
    }
    let database = asked.database();
    if database == "(default)" {
        return Err(bad("Database ID '(default)' is not allowed."));
    }
    if asked.project != state.project || !state.databases.contains_key(database) {
        return Err((
            404,
            format!(
                "The database {database} does not exist for project {}.",
                asked.project
            ),
        ));
    }
    // By this header, and not by the body, requests are led to where a named database is.
    if !database.is_empty()
        && params != format!("project_id={}&database_id={database}", asked.project)
    {
        return Err(bad("Missing or mismatched routing header."));
    }
    match asked.call {
        Call::Commit => commit(state, asked),
        Call::Lookup => lookup(state, asked),
        Call::RunQuery => query(state, asked),
        Call::RunAggregationQuery => aggregate(state, asked),
        Call::ReserveIds => reserve(state, asked),
        Call::AllocateIds => allocate(state, asked),
        Call::Token => unreachable!(),
    }
}

/// A key of this very database.
fn key_of(state: &State, asked: &Asked, key: &Value) -> Result<StoredKey, Refusal> {
    let partition = &key["partitionId"];
    let project = partition["projectId"].as_str().unwrap_or(&asked.project);
    if project != state.project
        || partition["databaseId"].as_str().unwrap_or_default() != asked.database()
    {
        return Err(bad(format!(
            "mismatched databases within request: s~{} vs. s~{project}",
            asked.project
        )));
    }
    let stored =
        StoredKey::of(key).ok_or_else(|| bad("The key path element must not be incomplete."))?;
    for (kind, name) in &stored.path {
        if kind.starts_with("__") && kind.ends_with("__") {
            return Err(bad(format!("The kind \"{kind}\" is reserved.")));
        }
        if kind.len() > 1_500 || matches!(name, Name::Text(text) if text.len() > 1_500) {
            return Err(bad("The key path element is longer than 1500 bytes."));
        }
    }
    if stored
        .path
        .iter()
        .rev()
        .skip(1)
        .any(|(_, name)| *name == Name::Incomplete)
    {
        return Err(bad(format!(
            "Key path element must not be incomplete: [{}]",
            stored.words()
        )));
    }
    Ok(stored)
}

/// What the service does not take in an entity.
fn check(entity: &Value) -> Result<(), Refusal> {
    let mut size = 0;
    for (name, value) in entity["properties"].as_object().into_iter().flatten() {
        size += name.len();
        if value["excludeFromIndexes"] == true && value.get("arrayValue").is_some() {
            return Err(bad("Exclude from indexes cannot be set on a list value"));
        }
        let elements = value["arrayValue"]["values"]
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in elements {
            let len = value["stringValue"].as_str().map(str::len);
            let blob = value["blobValue"]
                .as_str()
                .map(|text| STANDARD.decode(text).unwrap().len());
            let len = len.or(blob).unwrap_or_default();
            size += len;
            let limit = if value["excludeFromIndexes"] == true {
                1_048_487
            } else {
                1_500
            };
            if len > limit {
                return Err(bad(format!(
                    "The value of property \"{name}\" is longer than {limit} bytes."
                )));
            }
        }
    }
    if size > 1_048_572 {
        Err(bad("entity is too big"))
    } else {
        Ok(())
    }
}

fn mutation_of(mutation: &Value) -> Result<(&'static str, &Value, &Value), Refusal> {
    for deed in ["insert", "update", "upsert"] {
        if let Some(entity) = mutation.get(deed) {
            return Ok((deed, entity, &entity["key"]));
        }
    }
    mutation
        .get("delete")
        .map(|key| ("delete", key, key))
        .ok_or_else(|| bad("A mutation must have an operation."))
}

fn commit(state: &mut State, asked: &Asked) -> Result<Value, Refusal> {
    if asked.body["mode"] != "NON_TRANSACTIONAL" {
        return Err(bad("transactional commit requires a transaction"));
    }
    let mutations = asked.list("mutations");
    if mutations.len() > 500 {
        return Err(bad("cannot write more than 500 entities in a single call"));
    }
    // Everything is looked at before anything is done.
    let mut keys = BTreeSet::new();
    for mutation in mutations {
        let (deed, entity, key) = mutation_of(mutation)?;
        let key = key_of(state, asked, key)?;
        if deed != "delete" {
            check(entity)?;
        }
        let (kind, name) = key.last().clone();
        let exists = state.databases[asked.database()].contains_key(&key);
        match (deed, &name) {
            ("update" | "delete", Name::Incomplete) => {
                return Err(bad(format!(
                    "Key path element must not be incomplete: [{}]",
                    key.words()
                )));
            }
            ("insert", _) if exists => return Err((409, "entity already exists".to_owned())),
            ("update", _) if !exists => return Err((404, "no entity to update".to_owned())),
            _ => {}
        }
        let name = match name {
            Name::Id(id) => id.to_string(),
            Name::Text(text) => text,
            Name::Incomplete => continue,
        };
        if state.poisoned.contains(&(kind, name)) {
            return Err(bad(
                "The value of property \"note\" is not allowed: \"CANARY\".",
            ));
        }
        if !keys.insert(key) {
            return Err(bad(
                "A non-transactional commit may not contain multiple mutations affecting the same entity.",
            ));
        }
    }
    let now = time(state);
    let mut results = Vec::new();
    for mutation in mutations {
        let (deed, entity, key) = mutation_of(mutation)?;
        let stored_key = key_of(state, asked, key)?;
        let found = state.databases[asked.database()]
            .get(&stored_key)
            .map(|stored| stored.version);
        let base = mutation["baseVersion"]
            .as_str()
            .and_then(|version| version.parse::<i64>().ok());
        if let Some(base) = base
            && base != found.unwrap_or_default()
        {
            results.push(json!({"version": found.unwrap_or(state.version).to_string(), "conflictDetected": true}));
            continue;
        }
        let mut result = json!({"updateTime": now});
        if deed == "delete" {
            state.version += 1;
            state
                .databases
                .get_mut(asked.database())
                .unwrap()
                .remove(&stored_key);
        } else {
            let mut entity = entity.clone();
            if stored_key.last().1 == Name::Incomplete {
                complete(state, asked, &mut entity["key"]);
                result["key"] = entity["key"].clone();
            }
            put(state, asked.database(), entity);
        }
        result["version"] = state.version.to_string().into();
        results.push(result);
    }
    let mut answer = json!({"indexUpdates": results.len(), "commitTime": now});
    // What is empty is left out, as everywhere in the JSON of protocol buffers.
    if !results.is_empty() {
        answer["mutationResults"] = results.into();
    }
    Ok(answer)
}

pub(super) fn put(state: &mut State, database: &str, mut entity: Value) {
    state.version += 1;
    let version = state.version;
    entity["key"]["partitionId"]["projectId"] = state.project.as_str().into();
    let key = StoredKey::of(&entity["key"]).unwrap();
    state
        .databases
        .get_mut(database)
        .unwrap()
        .insert(key, Stored { entity, version });
}

/// Gives a key an id that is not reserved. That it is taken already the service does not see: that
/// is what reserving is for.
fn complete(state: &mut State, asked: &Asked, key: &mut Value) {
    loop {
        let id = state.next_id;
        state.next_id += 1;
        let path = key["path"].as_array_mut().unwrap();
        path.last_mut().unwrap()["id"] = id.to_string().into();
        if !state
            .reserved
            .contains(&(asked.database().to_owned(), StoredKey::of(key).unwrap()))
        {
            return;
        }
    }
}

fn lookup(state: &State, asked: &Asked) -> Result<Value, Refusal> {
    let keys = asked.list("keys");
    if keys.len() > 1_000 {
        return Err(bad("cannot get more than 1000 keys in a single call"));
    }
    let mut answer = json!({"readTime": time(state)});
    let mut add = |field: &str, value: Value| match &mut answer[field] {
        Value::Array(values) => values.push(value),
        empty => *empty = json!([value]),
    };
    for (number, key) in keys.iter().enumerate() {
        let stored = key_of(state, asked, key)?;
        if number >= PAGE {
            add("deferred", key.clone());
        } else if let Some(found) = state.databases[asked.database()].get(&stored) {
            add(
                "found",
                json!({"entity": found.entity, "version": found.version.to_string()}),
            );
        } else {
            add(
                "missing",
                json!({"entity": {"key": key}, "version": state.version.to_string()}),
            );
        }
    }
    Ok(answer)
}

/// The entities that a query is about, in order.
fn matching<'a>(
    state: &'a State,
    asked: &Asked,
    query: &Value,
) -> Result<Vec<(&'a StoredKey, &'a Stored)>, Refusal> {
    let partition = &asked.body["partitionId"];
    if partition["projectId"] != asked.project.as_str()
        || partition["databaseId"].as_str().unwrap_or_default() != asked.database()
    {
        return Err(bad("mismatched databases within request"));
    }
    let namespace = partition["namespaceId"].as_str().unwrap_or_default();
    let kind = query["kind"][0]["name"]
        .as_str()
        .ok_or_else(|| bad("A kind is required here."))?;
    Ok(state.databases[asked.database()]
        .iter()
        .filter(|(key, _)| key.is_of(namespace, kind))
        .collect())
}

/// The namespaces of a database, or the kinds of a namespace; none for a query of entities.
fn metadata_rows(
    state: &State,
    asked: &Asked,
    query: &Value,
) -> Option<BTreeMap<StoredKey, Stored>> {
    let namespace = asked.body["partitionId"]["namespaceId"]
        .as_str()
        .unwrap_or_default();
    let keys = state.databases.get(asked.database())?.keys();
    let kind = query["kind"][0]["name"].as_str()?;
    let names: BTreeSet<Name> = match kind {
        // The default one has a number.
        "__namespace__" => keys
            .map(|key| match key.namespace.as_str() {
                "" => Name::Id(1),
                name => Name::Text(name.to_owned()),
            })
            .collect(),
        "__kind__" => keys
            .filter(|key| key.namespace == namespace)
            .map(|key| Name::Text(key.last().0.clone()))
            .collect(),
        _ => return None,
    };
    let row = |name: Name| {
        let path = match &name {
            Name::Id(id) => json!([{"kind": kind, "id": id.to_string()}]),
            Name::Text(text) => json!([{"kind": kind, "name": text}]),
            Name::Incomplete => unreachable!(),
        };
        let key = json!({"partitionId": asked.body["partitionId"], "path": path});
        let stored = Stored {
            entity: json!({"key": key}),
            version: 1,
        };
        let namespace = namespace.to_owned();
        let path = vec![(kind.to_owned(), name)];
        (StoredKey { namespace, path }, stored)
    };
    Some(names.into_iter().map(row).collect())
}

fn query(state: &State, asked: &Asked) -> Result<Value, Refusal> {
    let query = &asked.body["query"];
    let all = matching(state, asked, query)?;
    let metadata = metadata_rows(state, asked, query);
    let all = metadata.as_ref().map_or(all, |rows| rows.iter().collect());
    let keys_only = query["projection"][0]["property"]["name"] == "__key__";
    let limit = query["limit"]
        .as_u64()
        .map_or(usize::MAX, |limit| limit as usize);
    // A cursor is the place behind a key, which need not be there any more.
    let cursor = |key: &StoredKey| STANDARD.encode(serde_json::to_string(key).unwrap());
    let after = query["startCursor"]
        .as_str()
        .filter(|cursor| !cursor.is_empty());
    let skip = match after {
        None => 0,
        Some(after) => {
            let after = STANDARD.decode(after).map_err(|_| bad("Invalid cursor"))?;
            let after: StoredKey =
                serde_json::from_slice(&after).map_err(|_| bad("Invalid cursor"))?;
            all.iter().take_while(|(key, _)| **key <= after).count()
        }
    };
    let page: Vec<_> = all.iter().skip(skip).take(limit.min(PAGE)).collect();
    let more = match (all.len() - skip) - page.len() {
        0 => "NO_MORE_RESULTS",
        _ if page.len() == limit => "MORE_RESULTS_AFTER_LIMIT",
        _ => "NOT_FINISHED",
    };
    let result = |(key, stored): &&(&StoredKey, &Stored)| {
        let entity = if keys_only {
            json!({"key": stored.entity["key"]})
        } else {
            stored.entity.clone()
        };
        json!({"entity": entity, "cursor": cursor(key), "version": stored.version.to_string()})
    };
    let end = page.last().map_or_else(
        || after.unwrap_or("CgA=").to_owned(),
        |(key, _)| cursor(key),
    );
    let mut batch = json!({
        "entityResultType": if keys_only { "KEY_ONLY" } else { "FULL" }, "endCursor": end, "moreResults": more, "readTime": time(state),
    });
    if !page.is_empty() {
        batch["entityResults"] = page.iter().map(result).collect();
    }
    Ok(json!({"batch": batch}))
}

fn aggregate(state: &State, asked: &Asked) -> Result<Value, Refusal> {
    let query = &asked.body["aggregationQuery"];
    let count = matching(state, asked, &query["nestedQuery"])?.len();
    let aggregation = &query["aggregations"][0];
    if aggregation.get("count").is_none() {
        return Err(bad("An aggregation must have an operator."));
    }
    let alias = aggregation["alias"].as_str().unwrap_or("property_1");
    let properties = json!({alias: {"integerValue": count.to_string()}});
    let results = json!([{"aggregateProperties": properties}]);
    Ok(
        json!({"batch": {"aggregationResults": results, "moreResults": "NO_MORE_RESULTS", "readTime": time(state)}}),
    )
}

fn reserve(state: &mut State, asked: &Asked) -> Result<Value, Refusal> {
    for key in asked.list("keys") {
        let key = key_of(state, asked, key)?;
        match key.last().1 {
            Name::Id(_) => drop(state.reserved.insert((asked.database().to_owned(), key))),
            // Names are nobody's to hand out.
            Name::Text(_) => {}
            Name::Incomplete => {
                return Err(bad(format!(
                    "Key path element must not be incomplete: [{}]",
                    key.words()
                )));
            }
        }
    }
    Ok(json!({}))
}

fn allocate(state: &mut State, asked: &Asked) -> Result<Value, Refusal> {
    let mut keys = asked.list("keys").to_vec();
    for key in &mut keys {
        if key_of(state, asked, key)?.last().1 != Name::Incomplete {
            return Err(bad("Key path is complete."));
        }
        complete(state, asked, key);
    }
    Ok(json!({"keys": keys}))
}
