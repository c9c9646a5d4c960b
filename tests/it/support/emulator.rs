//! Google's Datastore emulator: one for the whole test program, a fresh project for each test.
//! Besides it no more than one other emulator runs at a time: the Firestore emulator, one with
//! options of its own, or the private one of a command.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use kindpack::datastore::emulator::{self as installed, EmulatorError, RunningEmulator};
use kindpack::datastore::emulator_product::EmulatorProduct;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::skip;

/// Carries the calls of all tests.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
});

/// An emulator that answers.
pub struct Emulator {
    pub host: String,
    client: reqwest::Client,
    /// Kept, not only for its address: dropped, the emulator ends.
    _running: Option<(RunningEmulator, Option<Child>)>,
    /// Held until it has ended.
    _slot: Option<OwnedSemaphorePermit>,
}

/// Waits until no emulator runs but the one for all tests. Who starts another holds this.
pub fn other_emulator_slot() -> OwnedSemaphorePermit {
    static SLOT: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    RUNTIME.block_on(SLOT.clone().acquire_owned()).unwrap()
}

/// The emulator; where there is none the test is skipped.
pub fn emulator(test: &str) -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Result<Emulator, String>> = OnceLock::new();
    match EMULATOR.get_or_init(|| RUNTIME.block_on(start())) {
        Ok(emulator) => Some(emulator),
        Err(reason) => {
            skip("emulator", test, reason);
            None
        }
    }
}

async fn start() -> Result<Emulator, String> {
    let given = std::env::var("DATASTORE_EMULATOR_HOST").ok();
    if let Some(host) = given.filter(|host| !host.is_empty()) {
        return Ok(Emulator::at(host));
    }
    let running = start_installed(EmulatorProduct::Datastore);
    let running = running.await.map_err(|error| error.to_string())?;
    let (host, keeper) = (running.host().to_owned(), keep(running.host()));
    Ok(Emulator {
        _running: Some((running, Some(keeper))),
        ..Emulator::at(host)
    })
}

async fn start_installed(product: EmulatorProduct) -> Result<RunningEmulator, EmulatorError> {
    installed::find(Some(product))?.start().await
}

/// The Firestore emulator in Datastore mode, one for all tests that run at the same time; where
/// there is none the test is skipped.
pub fn firestore_emulator(test: &str) -> Option<Arc<Emulator>> {
    static SHARED: Mutex<Weak<Emulator>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(emulator) = shared.upgrade() {
        return Some(emulator);
    }
    let slot = has_firestore_emulator(test).then(other_emulator_slot)?;
    let running = RUNTIME.block_on(start_installed(EmulatorProduct::Firestore));
    let running = running.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let host = running.host().to_owned();
    let emulator = Arc::new(Emulator {
        _running: Some((running, None)),
        _slot: Some(slot),
        ..Emulator::at(host)
    });
    *shared = Arc::downgrade(&emulator);
    Some(emulator)
}

/// Whether the Firestore emulator is installed; where it is not the test is skipped.
pub fn has_firestore_emulator(test: &str) -> bool {
    let found = installed::find(Some(EmulatorProduct::Firestore));
    let missing = found.err().map(|error| error.to_string());
    if let Some(reason) = &missing {
        skip("firestore-emulator", test, reason);
    }
    missing.is_none()
}

/// A test program ends without dropping what is static. Its end closes the pipe to this keeper,
/// however it came, and the keeper sends the emulator away.
fn keep(host: &str) -> Child {
    let (name, port) = host.rsplit_once(':').unwrap();
    let script = format!(
        "trap '' INT TERM; cat > /dev/null; exec 3<> /dev/tcp/{name}/{port} && \
         printf 'POST /shutdown HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3"
    );
    let mut keeper = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    keeper.stdin.as_mut().unwrap().flush().unwrap();
    keeper
}

impl Emulator {
    /// The emulator at `HOST:PORT`.
    fn at(host: String) -> Self {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.timeout(Duration::from_secs(60)).build();
        Emulator {
            host,
            client: client.unwrap(),
            _running: None,
            _slot: None,
        }
    }

    /// A project id that nobody has used.
    pub fn fresh_project(&self) -> String {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        format!(
            "kp-{:x}-{}",
            now.as_micros(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// The TARGET of a project.
    pub fn target(&self, project: &str) -> String {
        format!("emulator:{project}@{}", self.host)
    }

    /// `POST /v1/projects/PROJECT:METHOD`; an error is its status and words.
    pub fn try_call(&self, project: &str, method: &str, body: &Value) -> Result<Value, String> {
        self.try_call_at("v1", project, method, body)
    }

    /// The same of another API than `v1`.
    pub fn try_call_at(
        &self,
        api: &str,
        project: &str,
        method: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let request = self.client.post(format!(
            "http://{}/{api}/projects/{project}:{method}",
            self.host
        ));
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        RUNTIME.block_on(async {
            let answer = request
                .send()
                .await
                .map_err(|error| format!("{method}: {error:?}"))?;
            let status = answer.status();
            let bytes = answer
                .bytes()
                .await
                .map_err(|error| format!("{method}: {error:?}"))?;
            if !status.is_success() {
                return Err(format!(
                    "{method}: {status} {}",
                    String::from_utf8_lossy(&bytes)
                ));
            }
            Ok(serde_json::from_slice(&bytes).unwrap())
        })
    }

    #[track_caller]
    pub fn call(&self, project: &str, method: &str, body: &Value) -> Value {
        self.try_call(project, method, body)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// All entities of one kind in one namespace; of all kinds where it is empty, which only the
    /// Firestore emulator lists.
    #[track_caller]
    pub fn query(&self, project: &str, namespace: &str, kind: &str) -> Vec<Value> {
        let mut partition = json!({"projectId": project});
        if !namespace.is_empty() {
            partition["namespaceId"] = namespace.into();
        }
        let mut found = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let mut query = json!({"limit": 1_000});
            if !kind.is_empty() {
                query["kind"] = json!([{"name": kind}]);
            }
            if !cursor.is_null() {
                query["startCursor"] = cursor;
            }
            let mut answer = self.call(
                project,
                "runQuery",
                &json!({"partitionId": partition, "query": query}),
            );
            let batch = &mut answer["batch"];
            let Value::Array(results) = batch["entityResults"].take() else {
                return found;
            };
            found.extend(
                results
                    .into_iter()
                    .map(|mut result| result["entity"].take()),
            );
            if batch["moreResults"] == "NO_MORE_RESULTS" {
                return found;
            }
            cursor = batch["endCursor"].take();
        }
    }

    /// The pairs that hold anything, by the service's own lists.
    #[track_caller]
    pub fn pairs(&self, project: &str) -> Vec<(String, String)> {
        let name = |entity: &Value| {
            entity["key"]["path"][0]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let namespaces: Vec<String> = self
            .query(project, "", "__namespace__")
            .iter()
            .map(name)
            .collect();
        let kinds = |namespace: String| {
            let kinds = self.query(project, &namespace, "__kind__");
            kinds
                .iter()
                .map(|kind| (namespace.clone(), name(kind)))
                .collect::<Vec<_>>()
        };
        namespaces.into_iter().flat_map(kinds).collect()
    }

    /// All entities of a project.
    #[track_caller]
    pub fn everything(&self, project: &str) -> Vec<Value> {
        self.pairs(project)
            .iter()
            .flat_map(|(namespace, kind)| self.query(project, namespace, kind))
            .collect()
    }

    #[track_caller]
    pub fn upsert(&self, project: &str, entities: &[Value]) {
        let mutations: Vec<Value> = entities
            .iter()
            .map(|entity| json!({"upsert": entity}))
            .collect();
        self.call(
            project,
            "commit",
            &json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations}),
        );
    }

    /// Google's own import of one export, by its `*.overall_export_metadata`.
    pub fn import(&self, project: &str, overall: &Path) -> Result<Value, String> {
        self.try_call(
            project,
            "import",
            &json!({"inputUrl": overall.to_str().unwrap()}),
        )
    }
}

/// An emulator with options of its own, which the shared one has not. It ends with the test.
pub struct OwnEmulator {
    child: Child,
    pub host: String,
    _folder: tempfile::TempDir,
    _slot: OwnedSemaphorePermit,
}

impl OwnEmulator {
    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&self) {
        let address = format!("http://{}/", self.host);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for _ in 0..600 {
            let answer = RUNTIME.block_on(client.get(&address).send());
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the emulator did not start");
    }
}

impl Drop for OwnEmulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The Datastore emulator as `gcloud` starts it, with another share of writes that queries see at
/// once; where there is none beside `gcloud` the test is skipped.
pub fn late_emulator(test: &str, consistency: &str) -> Option<OwnEmulator> {
    let Some(jar) = jar_beside_gcloud() else {
        skip("emulator", test, "no such emulator beside gcloud");
        return None;
    };
    let slot = other_emulator_slot();
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    let mut create = java(&jar);
    assert!(
        create
            .arg("create")
            .arg(&project)
            .status()
            .unwrap()
            .success()
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut start = java(&jar);
    start
        .args(["start", "--host=127.0.0.1", "--store_on_disk=false"])
        .arg(format!("--port={port}"))
        .arg(format!("--consistency={consistency}"))
        .arg(&project);
    let emulator = OwnEmulator {
        child: start.spawn().unwrap(),
        host: format!("127.0.0.1:{port}"),
        _folder: folder,
        _slot: slot,
    };
    emulator.wait_until_ready();
    Some(emulator)
}

fn jar_beside_gcloud() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut gclouds = std::env::split_paths(&path).map(|folder| folder.join("gcloud"));
    let gcloud = gclouds.find_map(|gcloud| gcloud.canonicalize().ok())?;
    let sdk = gcloud.parent()?.parent()?;
    let jar = sdk.join("platform/cloud-datastore-emulator/CloudDatastore.jar");
    jar.is_file().then_some(jar)
}

fn java(jar: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg("-Xmx1g")
        .arg("-cp")
        .arg(jar)
        .arg("com.google.cloud.datastore.emulator.CloudDatastore")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    java
}
