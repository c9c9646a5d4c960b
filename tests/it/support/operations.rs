//! A stand-in for the long-running operations of Datastore Admin v1 and Firestore Admin v1: imports
//! from a stand-in for Cloud Storage, exports into it, and a fault plan.
//!
//! It looks at what it is to import as the service does, so that an export that is not wholly there
//! is refused. It writes exports as the service lays them out. Pages are small, so that paging is
//! always tested. Google's own clients say whether it is true (`datastore/admin_fidelity.rs`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::Request;
use hyper::body::Incoming;
use kindpack::export::log::{self, LogWriter};
use kindpack::export::metadata::{
    ExportMetadata, KindFiles, NamespaceSpec, OverallMetadata, PartPointer,
};
use kindpack::model::{Namespace, Timestamp};
use serde_json::{Value, json};

use super::fault_plan::{Fault, FaultPlan};
use super::gcs_server::GcsServer;
use super::http_server::{self, HttpServer, cut};

/// Operations a page, whatever is requested.
const PAGE: usize = 2;

const SUFFIX: &str = ".overall_export_metadata";

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// The start of an import.
    Import,
    /// The start of an export.
    Export,
    /// A page of the operations.
    List,
    /// One operation.
    Get,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing is done; this status is answered.
    Status(u16),
    /// As `Status`, in these words of the service's.
    Refuse(u16, &'static str),
    /// As `Status`, with a `Retry-After` of that many seconds.
    RetryAfter(u16, u64),
    /// Nothing is done; somebody before the service answers this status, in no words of the
    /// service's.
    FrontEnd(u16),
    /// Nothing is done, and the connection is cut.
    Cut,
    /// Everything is done, the answer is lost.
    LoseAnswer,
    /// As `LoseAnswer`, and so many pages of listings do not show it yet.
    LoseAnswerAndHide(usize),
    /// Everything is done, and the answer is this status.
    AnswerStatus(u16),
    /// Everything is done, and the answer makes no sense.
    AnswerNonsense,
}

/// How an import comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeds,
    /// With these words.
    Fails(&'static str),
    /// With this code of gRPC and these words.
    FailsAs(u32, &'static str),
    IsCancelled,
    /// Only when [`Operations::end_all`] is called.
    Never,
}

/// Which of Google's APIs an operation was started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    DatastoreAdmin,
    FirestoreAdmin,
}

/// What an export is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportFilter {
    pub kinds: Vec<String>,
    pub namespaces: Vec<String>,
    pub snapshot_time: Option<String>,
}

/// An import or export that was started.
#[derive(Debug, Clone)]
pub struct Operation {
    pub name: String,
    /// The completion marker, or with Firestore Admin its folder; empty for an export.
    pub input_url: String,
    /// Empty for an import.
    pub output_prefix: String,
    pub filter: ExportFilter,
    pub api: Api,
    /// Empty for the default one.
    pub database: String,
    pub started_at: Instant,
    pub labels: BTreeMap<String, String>,
    /// Entities of its export.
    pub entities: u64,
    /// How often it must be requested until it ends.
    polls_left: usize,
    end: End,
    ended: bool,
    hidden: usize,
}

/// Database, namespace and kind of entities that can be exported.
type Place = (String, String, String);

#[derive(Debug)]
struct State {
    project: String,
    records: BTreeMap<Place, Vec<Vec<u8>>>,
    running_max: usize,
    gcs: Arc<GcsServer>,
    operations: Vec<Operation>,
    /// Of the next imports: how often they are requested, and their end.
    course: (usize, End),
    faults: FaultPlan<Call, Deed>,
    /// Which API the request at hand is for, and which database.
    asked: (Api, String),
    token: Option<String>,
    denied: Option<&'static str>,
    takes_filters: bool,
    most_at_once: usize,
}

/// What is answered; nothing where the connection is cut.
pub type Reply = Option<(u16, Vec<(&'static str, String)>, Value)>;

/// The operations of one project. Those that serve on their own end when they are dropped.
#[derive(Debug)]
pub struct Operations {
    state: Arc<Mutex<State>>,
    http: Option<HttpServer>,
}

fn error(status: u16, message: &str) -> (u16, Vec<(&'static str, String)>, Value) {
    let word = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        409 => "ABORTED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    (
        status,
        Vec::new(),
        json!({"error": {"code": status, "message": message, "status": word}}),
    )
}

impl Operations {
    /// The operations of `project`, which imports from the buckets of `gcs`.
    pub fn new(project: &str, gcs: Arc<GcsServer>) -> Self {
        let state = State {
            project: project.to_owned(),
            records: BTreeMap::new(),
            running_max: usize::MAX,
            gcs,
            operations: Vec::new(),
            course: (2, End::Succeeds),
            faults: FaultPlan::default(),
            asked: (Api::DatastoreAdmin, String::new()),
            token: None,
            denied: None,
            takes_filters: true,
            most_at_once: 0,
        };
        Operations {
            state: Arc::new(Mutex::new(state)),
            http: None,
        }
    }

    /// As [`Operations::new`], on a port of its own.
    pub fn start(project: &str, gcs: Arc<GcsServer>) -> Self {
        let mut operations = Operations::new(project, gcs);
        let state = operations.state.clone();
        let answer = move |request| respond(request, state.clone());
        operations.http = Some(HttpServer::serve(HttpServer::bind("127.0.0.1:0"), answer));
        operations
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE` is to hold.
    pub fn url(&self) -> String {
        let http = self.http.as_ref();
        http.expect("operations that serve on their own").url()
    }

    /// Plans a fault: the call of that number, counted from 0, goes wrong.
    pub fn plan(&self, call: Call, number: usize, deed: Deed) {
        self.plan_many(call, number..number + 1, deed);
    }

    /// Plans a fault for several calls.
    pub fn plan_many(&self, call: Call, numbers: Range<usize>, deed: Deed) {
        let times = numbers.end - numbers.start;
        self.state().faults.add(call, numbers.start, times, deed);
    }

    /// Faults that never happened: a test that planned them has tested nothing.
    pub fn unfired(&self) -> Vec<Fault<Call, Deed>> {
        self.state().faults.unfired()
    }

    /// The imports from now on are requested so often before they end, and end so.
    pub fn course(&self, polls: usize, end: End) {
        self.state().course = (polls, end);
    }

    /// What a kind holds, each as an `EntityProto`: exports from now on write it.
    pub fn put(&self, database: &str, namespace: &str, kind: &str, records: Vec<Vec<u8>>) {
        let place = (database.to_owned(), namespace.to_owned(), kind.to_owned());
        self.state().records.insert(place, records);
    }

    /// From now on a start is refused while so many operations go on.
    pub fn limit_running(&self, most: usize) {
        self.state().running_max = most;
    }

    /// Answers a request of another server, where it is about operations.
    pub fn answer(&self, method: &str, path: &str, authority: &str, body: &[u8]) -> Option<Reply> {
        self.state().answer(method, path, authority, body)
    }

    /// From now on nobody is served without this token.
    pub fn wants_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// From now on the caller lacks a permission.
    pub fn deny(&self, permission: &'static str) {
        self.state().denied = Some(permission);
    }

    /// From now on listings with a filter are refused.
    pub fn refuse_filters(&self) {
        self.state().takes_filters = false;
    }

    /// What goes on succeeds now.
    pub fn end_all(&self) {
        for operation in self
            .state()
            .operations
            .iter_mut()
            .filter(|operation| !operation.ended)
        {
            (operation.polls_left, operation.end) = (0, End::Succeeds);
        }
    }

    /// The imports that were started, in order.
    pub fn started(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    /// How many requests of a sort there were.
    pub fn count(&self, call: Call) -> usize {
        self.state().faults.count(call)
    }

    /// How many imports went on at once, at the most.
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }
}

impl State {
    fn answer(
        &mut self,
        method: &str,
        path_and_query: &str,
        authority: &str,
        body: &[u8],
    ) -> Option<Reply> {
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        let below = path
            .strip_prefix("/v1/projects/")?
            .strip_prefix(self.project.as_str())?;
        let (api, database, below) = api_of(below);
        let call = match (api, method, below) {
            (Api::DatastoreAdmin, "POST", ":import") => Call::Import,
            (Api::FirestoreAdmin, "POST", ":importDocuments") => Call::Import,
            (Api::DatastoreAdmin, "POST", ":export") => Call::Export,
            (Api::FirestoreAdmin, "POST", ":exportDocuments") => Call::Export,
            (_, "GET", "/operations") => Call::List,
            (_, "GET", name) if name.starts_with("/operations/") => Call::Get,
            _ => return None,
        };
        self.asked = (api, database.to_owned());
        let below = below.to_owned();
        let deed = self.faults.next(call);
        Some(self.reply(call, &below, query, authority, body, deed))
    }

    fn reply(
        &mut self,
        call: Call,
        below: &str,
        query: &str,
        authority: &str,
        body: &[u8],
        deed: Option<Deed>,
    ) -> Reply {
        match deed {
            Some(Deed::Status(status)) => return Some(error(status, "planned")),
            Some(Deed::Refuse(status, words)) => return Some(error(status, words)),
            Some(Deed::RetryAfter(status, seconds)) => {
                let (status, mut headers, body) = error(status, "planned");
                headers.push(("retry-after", seconds.to_string()));
                return Some((status, headers, body));
            }
            Some(Deed::FrontEnd(status)) => {
                return Some((status, Vec::new(), "<html>gateway</html>".into()));
            }
            Some(Deed::Cut) => return None,
            _ => {}
        }
        if self
            .token
            .as_ref()
            .is_some_and(|token| authority != format!("Bearer {token}"))
        {
            return Some(error(
                401,
                "Request had invalid authentication credentials.",
            ));
        }
        let permission = match call {
            Call::Import => "datastore.databases.import",
            Call::Export => "datastore.databases.export",
            Call::List => "datastore.operations.list",
            Call::Get => "datastore.operations.get",
        };
        if self.denied == Some(permission) {
            return Some(error(403, "Missing or insufficient permissions."));
        }
        let done = match call {
            Call::Import | Call::Export if self.running() >= self.running_max => Err((
                429,
                "Quota exceeded for concurrent exports and imports.".to_owned(),
            )),
            Call::Import => self.import(body),
            Call::Export => self.export(body),
            Call::List => self.list(query),
            Call::Get => self.get(below),
        };
        let done = match done {
            Ok(value) => (200, Vec::new(), value),
            Err((status, message)) => error(status, &message),
        };
        match deed {
            Some(Deed::LoseAnswer) => None,
            Some(Deed::LoseAnswerAndHide(pages)) => {
                if let Some(operation) = self.operations.last_mut() {
                    operation.hidden = pages;
                }
                None
            }
            Some(Deed::AnswerStatus(status)) => Some(error(status, "planned")),
            Some(Deed::AnswerNonsense) => Some((
                200,
                Vec::new(),
                json!({"name": "projects/another/operations/x"}),
            )),
            _ => Some(done),
        }
    }

    /// Operations that go on.
    fn running(&self) -> usize {
        let running = self.operations.iter().filter(|operation| !operation.ended);
        running.count()
    }

    fn import(&mut self, body: &[u8]) -> Result<Value, (u16, String)> {
        let invalid = |message: &str| (400, message.to_owned());
        let (fields, input): (&[&str], _) = match self.asked.0 {
            Api::DatastoreAdmin => (&["inputUrl", "labels", "entityFilter"], "inputUrl"),
            Api::FirestoreAdmin => (
                &["inputUriPrefix", "collectionIds", "namespaceIds"],
                "inputUriPrefix",
            ),
        };
        let asked = fields_of(body, fields)?;
        let input_url = asked[input].as_str().unwrap_or_default();
        let completion_marker = match self.asked.0 {
            Api::DatastoreAdmin => input_url.to_owned(),
            Api::FirestoreAdmin => {
                let name = input_url.rsplit('/').next().unwrap_or_default();
                format!("{input_url}/{name}{SUFFIX}")
            }
        };
        let entities = self
            .look_at(&completion_marker)
            .map_err(|message| invalid(&message))?;
        let labels = labels_of(&asked)?;
        let operation = Operation {
            input_url: input_url.to_owned(),
            labels,
            entities,
            ..self.new_operation()
        };
        Ok(self.begin(operation))
    }

    fn export(&mut self, body: &[u8]) -> Result<Value, (u16, String)> {
        let (fields, output): (&[&str], _) = match self.asked.0 {
            Api::DatastoreAdmin => (
                &["outputUrlPrefix", "labels", "entityFilter"],
                "outputUrlPrefix",
            ),
            Api::FirestoreAdmin => (
                &[
                    "outputUriPrefix",
                    "collectionIds",
                    "namespaceIds",
                    "snapshotTime",
                ],
                "outputUriPrefix",
            ),
        };
        let asked = fields_of(body, fields)?;
        let output_prefix = asked[output].as_str().unwrap_or_default().to_owned();
        let bucket = output_prefix.strip_prefix("gs://").unwrap_or_default();
        let bucket = bucket.split('/').next().unwrap_or_default();
        if !self.gcs.has_bucket(bucket) {
            return Err((404, "The specified bucket does not exist.".to_owned()));
        }
        let operation = Operation {
            output_prefix,
            filter: self.filter_of(&asked)?,
            labels: labels_of(&asked)?,
            ..self.new_operation()
        };
        Ok(self.begin(operation))
    }

    fn filter_of(&self, asked: &Value) -> Result<ExportFilter, (u16, String)> {
        let list = |value: &Value| serde_json::from_value(value.clone()).unwrap_or_default();
        let filter = match self.asked.0 {
            Api::DatastoreAdmin => ExportFilter {
                kinds: list(&asked["entityFilter"]["kinds"]),
                namespaces: list(&asked["entityFilter"]["namespaceIds"]),
                snapshot_time: None,
            },
            Api::FirestoreAdmin => ExportFilter {
                kinds: list(&asked["collectionIds"]),
                namespaces: list(&asked["namespaceIds"]),
                snapshot_time: asked["snapshotTime"].as_str().map(str::to_owned),
            },
        };
        let Some(time) = &filter.snapshot_time else {
            return Ok(filter);
        };
        match time.parse::<Timestamp>() {
            Ok(time) if time.micros() % 60_000_000 == 0 => Ok(filter),
            _ => Err((400, "The requested snapshot version is too old.".to_owned())),
        }
    }

    fn new_operation(&self) -> Operation {
        let (polls_left, end) = self.course;
        let (api, database) = self.asked.clone();
        let below = match api {
            Api::DatastoreAdmin => String::new(),
            Api::FirestoreAdmin if database.is_empty() => "/databases/(default)".to_owned(),
            Api::FirestoreAdmin => format!("/databases/{database}"),
        };
        let number = self.operations.len();
        Operation {
            name: format!("projects/{}{below}/operations/ASA{number}-_x", self.project),
            input_url: String::new(),
            output_prefix: String::new(),
            filter: ExportFilter::default(),
            api,
            database,
            started_at: Instant::now(),
            labels: BTreeMap::new(),
            entities: 0,
            polls_left,
            end,
            ended: false,
            hidden: 0,
        }
    }

    fn begin(&mut self, mut operation: Operation) -> Value {
        if !operation.output_prefix.is_empty() {
            let records = self.exported(&operation);
            operation.entities = records
                .iter()
                .map(|(_, records)| records.len() as u64)
                .sum();
        }
        let told = told(&operation);
        self.operations.push(operation);
        self.most_at_once = self.most_at_once.max(self.running());
        told
    }

    /// What an export holds, pair by pair.
    fn exported(&self, operation: &Operation) -> Vec<(&Place, &Vec<Vec<u8>>)> {
        let is_in =
            |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        let filter = &operation.filter;
        let is_wanted = |(database, namespace, kind): &Place| {
            *database == operation.database
                && is_in(&filter.kinds, kind)
                && is_in(&filter.namespaces, namespace)
        };
        let records = self.records.iter();
        records.filter(|(place, _)| is_wanted(place)).collect()
    }

    /// Writes the objects of an export; without the completion marker where it does not succeed.
    fn write_export(&self, operation: &Operation) {
        let prefix = operation.output_prefix.strip_prefix("gs://").unwrap();
        // A bucket alone gets a folder with the name of the start.
        let (bucket, folder) = prefix
            .split_once('/')
            .unwrap_or((prefix, "2025-11-22T10:00:01_23456"));
        let folder = folder.trim_end_matches('/');
        let name = folder.rsplit('/').next().unwrap();
        let time = Timestamp::from_micros(1_763_805_601_234_567);
        let mut overall = OverallMetadata {
            pointers: Vec::new(),
        };
        for ((_, namespace, kind), records) in self.exported(operation) {
            let label = match namespace.as_str() {
                "" => "default_namespace".to_owned(),
                namespace => format!("namespace_{namespace}"),
            };
            let metadata_file = format!("{label}/kind_{kind}/{label}_kind_{kind}.export_metadata");
            let (mut log, mut out) = (LogWriter::default(), Vec::new());
            records
                .iter()
                .for_each(|record| log.record(record, &mut out));
            let bytes = log.finish(&mut out);
            self.gcs.put(
                bucket,
                &format!("{folder}/{label}/kind_{kind}/output-0"),
                out,
            );
            let metadata = ExportMetadata {
                name: name.to_owned(),
                started: time,
                finished: time,
                kinds: vec![KindFiles {
                    kind: kind.clone(),
                    files: vec!["output-0".to_owned()],
                }],
            };
            self.gcs.put(
                bucket,
                &format!("{folder}/{metadata_file}"),
                metadata.encode(),
            );
            overall.pointers.push(PartPointer {
                kind: Some(kind.clone()),
                namespace: NamespaceSpec::One(Namespace::new(namespace.clone())),
                metadata_file,
                entities: records.len() as u64,
                bytes,
            });
        }
        if matches!(operation.end, End::Succeeds | End::Never) {
            self.gcs.put(
                bucket,
                &format!("{folder}/{name}{SUFFIX}"),
                overall.encode(),
            );
        }
    }

    /// Reads an export as the service would; gives its entities.
    fn look_at(&self, input_url: &str) -> Result<u64, String> {
        let (bucket, name) = input_url
            .strip_prefix("gs://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or("The input_url is no gs:// URL.")?;
        let read = |name: &str| {
            self.gcs
                .get(bucket, name)
                .map(|object| object.bytes())
                .ok_or(format!("Could not find {name}."))
        };
        let (folder, base) = name
            .rsplit_once('/')
            .ok_or("The input_url has no folder.")?;
        let title = base
            .strip_suffix(SUFFIX)
            .ok_or("The input_url is no overall export metadata file.")?;
        if folder.rsplit('/').next() != Some(title) {
            return Err(
                "The overall export metadata file must be named like its folder.".to_owned(),
            );
        }
        let mut entities = 0;
        for pointer in OverallMetadata::parse(&read(name)?)
            .map_err(|error| error.to_string())?
            .pointers
        {
            let metadata = format!("{folder}/{}", pointer.metadata_file);
            let around = metadata.rsplit_once('/').unwrap().0.to_owned();
            for kind in ExportMetadata::parse(&read(&metadata)?)
                .map_err(|error| error.to_string())?
                .kinds
            {
                for file in kind.files {
                    entities += log::read_all(&read(&format!("{around}/{file}"))?)
                        .map_err(|error| error.to_string())?
                        .len() as u64;
                }
            }
        }
        Ok(entities)
    }

    fn list(&mut self, query: &str) -> Result<Value, (u16, String)> {
        let query: BTreeMap<String, String> = reqwest::Url::parse(&format!("http://x/?{query}"))
            .unwrap()
            .query_pairs()
            .into_owned()
            .collect();
        let mut wanted = Vec::new();
        if let Some(filter) = query.get("filter") {
            let refused = || (400, "Invalid filter.".to_owned());
            if !self.takes_filters {
                return Err(refused());
            }
            for term in filter.split(" AND ") {
                let (name, value) = term
                    .strip_prefix("metadata.common.labels.")
                    .and_then(|term| term.split_once('='))
                    .ok_or_else(refused)?;
                let value = value
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'))
                    .ok_or_else(refused)?;
                wanted.push((name.to_owned(), value.to_owned()));
            }
        }
        let from: usize = query
            .get("pageToken")
            .map_or(Ok(0), |token| token.parse())
            .map_err(|_| (400, "Invalid page token.".to_owned()))?;
        let asked = self.asked.clone();
        let fits = |operation: &&Operation| {
            let labels = &operation.labels;
            (operation.api, &operation.database) == (asked.0, &asked.1)
                && wanted
                    .iter()
                    .all(|(name, value)| labels.get(name) == Some(value))
        };
        let shown: Vec<Value> = self
            .operations
            .iter()
            .filter(|operation| operation.hidden == 0)
            .filter(fits)
            .map(told)
            .collect();
        self.operations
            .iter_mut()
            .for_each(|operation| operation.hidden = operation.hidden.saturating_sub(1));
        let page: Vec<Value> = shown.iter().skip(from).take(PAGE).cloned().collect();
        let mut answer = json!({});
        if !page.is_empty() {
            answer["operations"] = page.into();
        }
        if from + PAGE < shown.len() {
            answer["nextPageToken"] = (from + PAGE).to_string().into();
        }
        Ok(answer)
    }

    fn get(&mut self, below: &str) -> Result<Value, (u16, String)> {
        let asked = self.asked.clone();
        let operation = self.operations.iter_mut().find(|operation| {
            (operation.api, &operation.database) == (asked.0, &asked.1)
                && operation.name.ends_with(below)
        });
        let operation = operation.ok_or_else(|| (404, "Operation not found.".to_owned()))?;
        let ends_now = !operation.ended && operation.polls_left == 0 && operation.end != End::Never;
        operation.ended |= ends_now;
        operation.polls_left = operation.polls_left.saturating_sub(1);
        let operation = operation.clone();
        if ends_now && !operation.output_prefix.is_empty() {
            self.write_export(&operation);
        }
        Ok(told(&operation))
    }
}

/// The API that an address below the project is of, the database, and what follows. The default
/// database is empty.
fn api_of(below: &str) -> (Api, &str, &str) {
    let Some(rest) = below.strip_prefix("/databases/") else {
        return (Api::DatastoreAdmin, "", below);
    };
    let (database, rest) = rest.split_at(rest.find([':', '/']).unwrap_or(rest.len()));
    let database = match database {
        "(default)" | "%28default%29" => "",
        database => database,
    };
    (Api::FirestoreAdmin, database, rest)
}

/// The body of a request with these fields and no others. Google's own client asks for enums as
/// numbers besides, in the address.
fn fields_of(body: &[u8], known: &[&str]) -> Result<Value, (u16, String)> {
    let invalid = |message: &str| (400, message.to_owned());
    let asked: Value =
        serde_json::from_slice(body).map_err(|_| invalid("Invalid JSON payload received."))?;
    let fields = asked
        .as_object()
        .ok_or_else(|| invalid("Invalid JSON payload received."))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(invalid(&format!(
            "Invalid JSON payload received. Unknown name \"{unknown}\": Cannot find field."
        ))),
        None => Ok(asked),
    }
}

fn labels_of(asked: &Value) -> Result<BTreeMap<String, String>, (u16, String)> {
    match &asked["labels"] {
        Value::Null => Ok(BTreeMap::new()),
        labels => serde_json::from_value(labels.clone())
            .map_err(|_| (400, "Invalid value at 'labels'".to_owned())),
    }
}

/// An operation in the service's words. Numbers of 64 bits are text.
fn told(operation: &Operation) -> Value {
    let mut told = json!({"name": operation.name, "metadata": metadata_of(operation)});
    if !operation.ended {
        return told;
    }
    told["done"] = true.into();
    match operation.end {
        End::Succeeds | End::Never => told["response"] = response_of(operation),
        End::Fails(words) => told["error"] = json!({"code": 3, "message": words}),
        End::FailsAs(code, words) => told["error"] = json!({"code": code, "message": words}),
        End::IsCancelled => {
            told["error"] = json!({"code": 1, "message": "The operation was cancelled."})
        }
    }
    told
}

fn metadata_of(operation: &Operation) -> Value {
    let Operation {
        entities,
        polls_left,
        end,
        ended,
        filter,
        ..
    } = operation;
    let state = match (ended, end) {
        (false, _) => "PROCESSING",
        (true, End::Succeeds | End::Never) => "SUCCESSFUL",
        (true, End::Fails(_) | End::FailsAs(..)) => "FAILED",
        (true, End::IsCancelled) => "CANCELLED",
    };
    let done = if *ended {
        *entities
    } else {
        entities / (*polls_left as u64 + 2)
    };
    let is_import = operation.output_prefix.is_empty();
    let deed = if is_import { "Import" } else { "Export" };
    let started = "2025-11-22T10:00:01.234567Z";
    let mut metadata = match operation.api {
        Api::DatastoreAdmin => json!({
            "@type": format!("type.googleapis.com/google.datastore.admin.v1.{deed}EntitiesMetadata"),
            "common": {"startTime": started, "operationType": format!("{}_ENTITIES", deed.to_uppercase()), "labels": operation.labels, "state": state},
            "progressEntities": {"workCompleted": done.to_string(), "workEstimated": entities.to_string()},
            "progressBytes": {"workCompleted": (done * 100).to_string(), "workEstimated": (entities * 100).to_string()},
            "entityFilter": {"kinds": filter.kinds, "namespaceIds": filter.namespaces},
        }),
        Api::FirestoreAdmin => json!({
            "@type": format!("type.googleapis.com/google.firestore.admin.v1.{deed}DocumentsMetadata"),
            "startTime": started, "operationState": state,
            "progressDocuments": {"completedWork": done.to_string(), "estimatedWork": entities.to_string()},
            "progressBytes": {"completedWork": (done * 100).to_string(), "estimatedWork": (entities * 100).to_string()},
            "collectionIds": filter.kinds, "namespaceIds": filter.namespaces,
        }),
    };
    let (field, address) = match (operation.api, is_import) {
        (Api::DatastoreAdmin, true) => ("inputUrl", &operation.input_url),
        (Api::FirestoreAdmin, true) => ("inputUriPrefix", &operation.input_url),
        (Api::DatastoreAdmin, false) => ("outputUrlPrefix", &operation.output_prefix),
        (Api::FirestoreAdmin, false) => ("outputUriPrefix", &operation.output_prefix),
    };
    metadata[field] = address.as_str().into();
    if let Some(time) = &filter.snapshot_time {
        metadata["snapshotTime"] = time.as_str().into();
    }
    metadata
}

fn response_of(operation: &Operation) -> Value {
    let prefix = &operation.output_prefix;
    let name = prefix
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match operation.api {
        _ if prefix.is_empty() => json!({"@type": "type.googleapis.com/google.protobuf.Empty"}),
        Api::DatastoreAdmin => json!({
            "@type": "type.googleapis.com/google.datastore.admin.v1.ExportEntitiesResponse",
            "outputUrl": format!("{prefix}/{name}{SUFFIX}"),
        }),
        Api::FirestoreAdmin => json!({
            "@type": "type.googleapis.com/google.firestore.admin.v1.ExportDocumentsResponse",
            "outputUriPrefix": prefix,
        }),
    }
}

async fn respond(request: Request<Incoming>, state: Arc<Mutex<State>>) -> http_server::Answer {
    let (head, body) = request.into_parts();
    let body = http_server::read_body(body).await?;
    let authority = head
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let path = head
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let reply = state.lock().unwrap_or_else(PoisonError::into_inner).answer(
        head.method.as_str(),
        &path,
        authority,
        &body,
    );
    respond_to(reply.unwrap_or_else(|| Some(error(404, "Not found."))))
}

/// A reply on its way.
pub fn respond_to(reply: Reply) -> http_server::Answer {
    let (status, mut headers, body) = reply.ok_or_else(cut)?;
    headers.push(("content-type", "application/json; charset=UTF-8".to_owned()));
    Ok(http_server::respond(status, headers, body.to_string()))
}
