//! A stand-in for the long-running operations of Datastore Admin v1: imports from a stand-in for
//! Cloud Storage, and a fault plan.
//!
//! It looks at what it is to import as the service does, so that an export that is not wholly there
//! is refused. Pages are small, so that paging is always tested.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Request;
use hyper::body::Incoming;
use kindpack::export::log;
use kindpack::export::metadata::{ExportMetadata, OverallMetadata};
use serde_json::{Value, json};

use super::fault_plan::{Fault, FaultPlan};
use super::gcs_server::GcsServer;
use super::http_server::{self, HttpServer, cut};

/// Operations a page, whatever is asked for.
const PAGE: usize = 2;

const SUFFIX: &str = ".overall_export_metadata";

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// The start of an import.
    Import,
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
    IsCancelled,
    /// Only when [`Operations::end_all`] is called.
    Never,
}

/// An import that was started.
#[derive(Debug, Clone)]
pub struct Operation {
    pub name: String,
    pub input_url: String,
    pub labels: BTreeMap<String, String>,
    /// Entities of its export.
    pub entities: u64,
    /// How often it must be asked for until it ends.
    polls_left: usize,
    end: End,
    ended: bool,
    hidden: usize,
}

#[derive(Debug)]
struct State {
    project: String,
    gcs: Arc<GcsServer>,
    operations: Vec<Operation>,
    /// Of the next imports: how often they are asked for, and their end.
    course: (usize, End),
    faults: FaultPlan<Call, Deed>,
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
            gcs,
            operations: Vec::new(),
            course: (2, End::Succeeds),
            faults: FaultPlan::default(),
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

    /// The imports from now on are asked for so often before they end, and end so.
    pub fn course(&self, polls: usize, end: End) {
        self.state().course = (polls, end);
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
            .strip_prefix(self.project.as_str())?
            .to_owned();
        let call = match (method, below.as_str()) {
            ("POST", ":import") => Call::Import,
            ("GET", "/operations") => Call::List,
            ("GET", name) if name.starts_with("/operations/") => Call::Get,
            _ => return None,
        };
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
            Call::List => "datastore.operations.list",
            Call::Get => "datastore.operations.get",
        };
        if self.denied == Some(permission) {
            return Some(error(403, "Missing or insufficient permissions."));
        }
        let done = match call {
            Call::Import => self.import(body),
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

    fn import(&mut self, body: &[u8]) -> Result<Value, (u16, String)> {
        let invalid = |message: &str| (400, message.to_owned());
        let asked: Value =
            serde_json::from_slice(body).map_err(|_| invalid("Invalid JSON payload received."))?;
        let fields = asked
            .as_object()
            .ok_or_else(|| invalid("Invalid JSON payload received."))?;
        if let Some(unknown) = fields
            .keys()
            .find(|name| !["inputUrl", "labels", "entityFilter"].contains(&name.as_str()))
        {
            return Err(invalid(&format!(
                "Invalid JSON payload received. Unknown name \"{unknown}\": Cannot find field."
            )));
        }
        let input_url = asked["inputUrl"].as_str().unwrap_or_default();
        let entities = self
            .look_at(input_url)
            .map_err(|message| invalid(&message))?;
        let labels: BTreeMap<String, String> = serde_json::from_value(asked["labels"].clone())
            .map_err(|_| invalid("Invalid value at 'labels'"))?;
        let (polls_left, end) = self.course;
        let name = format!(
            "projects/{}/operations/ASA{}-_x",
            self.project,
            self.operations.len()
        );
        let (input_url, ended, hidden) = (input_url.to_owned(), false, 0);
        self.operations.push(Operation {
            name,
            input_url,
            labels,
            entities,
            polls_left,
            end,
            ended,
            hidden,
        });
        let running = self
            .operations
            .iter()
            .filter(|operation| !operation.ended)
            .count();
        self.most_at_once = self.most_at_once.max(running);
        Ok(told(self.operations.last().unwrap()))
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
        let fits = |operation: &&Operation| {
            wanted
                .iter()
                .all(|(name, value)| operation.labels.get(name) == Some(value))
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
        let operation = self
            .operations
            .iter_mut()
            .find(|operation| operation.name.ends_with(below));
        let operation = operation.ok_or_else(|| (404, "Operation not found.".to_owned()))?;
        if operation.polls_left == 0 && operation.end != End::Never {
            operation.ended = true;
        }
        operation.polls_left = operation.polls_left.saturating_sub(1);
        Ok(told(operation))
    }
}

/// An operation in the service's words. Numbers of 64 bits are text.
fn told(operation: &Operation) -> Value {
    let Operation {
        name,
        input_url,
        labels,
        entities,
        polls_left,
        end,
        ended,
        ..
    } = operation;
    let state = match (ended, end) {
        (false, _) => "PROCESSING",
        (true, End::Succeeds | End::Never) => "SUCCESSFUL",
        (true, End::Fails(_)) => "FAILED",
        (true, End::IsCancelled) => "CANCELLED",
    };
    let done = if *ended {
        *entities
    } else {
        entities / (*polls_left as u64 + 2)
    };
    let mut told = json!({
        "name": name,
        "metadata": {
            "@type": "type.googleapis.com/google.datastore.admin.v1.ImportEntitiesMetadata",
            "common": {"startTime": "2025-11-22T10:00:01.234567Z", "operationType": "IMPORT_ENTITIES", "labels": labels, "state": state},
            "progressEntities": {"workCompleted": done.to_string(), "workEstimated": entities.to_string()},
            "progressBytes": {"workCompleted": (done * 100).to_string(), "workEstimated": (entities * 100).to_string()},
            "entityFilter": {},
            "inputUrl": input_url,
        },
    });
    if *ended {
        told["done"] = true.into();
        match end {
            End::Succeeds | End::Never => {
                told["response"] = json!({"@type": "type.googleapis.com/google.protobuf.Empty"})
            }
            End::Fails(words) => told["error"] = json!({"code": 3, "message": words}),
            End::IsCancelled => {
                told["error"] = json!({"code": 1, "message": "The operation was cancelled."})
            }
        }
    }
    told
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
    let reply = reply.unwrap_or_else(|| Some(error(404, "Not found.")));
    let (status, mut headers, body) = reply.ok_or_else(cut)?;
    headers.push(("content-type", "application/json; charset=UTF-8".to_owned()));
    Ok(http_server::respond(status, headers, body.to_string()))
}
