//! Google's Datastore emulator: one for the whole test program, a fresh project for each test.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use kindpack::datastore::emulator::{self as installed, RunningEmulator};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

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
    _running: Option<(RunningEmulator, Child)>,
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
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    if let Some(host) = std::env::var("DATASTORE_EMULATOR_HOST")
        .ok()
        .filter(|host| !host.is_empty())
    {
        return Ok(Emulator {
            host,
            client,
            _running: None,
        });
    }
    let running = installed::find()
        .map_err(|error| error.to_string())?
        .start()
        .await
        .map_err(|error| error.to_string())?;
    let host = running.host().to_owned();
    let keeper = keep(&host);
    Ok(Emulator {
        host,
        client,
        _running: Some((running, keeper)),
    })
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
        let request = self.client.post(format!(
            "http://{}/v1/projects/{project}:{method}",
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

    /// All entities of one kind in one namespace.
    #[track_caller]
    pub fn query(&self, project: &str, namespace: &str, kind: &str) -> Vec<Value> {
        let mut partition = json!({"projectId": project});
        if !namespace.is_empty() {
            partition["namespaceId"] = namespace.into();
        }
        let mut found = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let mut query = json!({"kind": [{"name": kind}], "limit": 1_000});
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
    pub fn import(&self, project: &str, overall: &std::path::Path) -> Result<Value, String> {
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
}

impl OwnEmulator {
    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OwnEmulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a program of Google's SDK beside `gcloud`; where there is none the test is skipped.
/// `--port` and, last, an empty folder are added.
fn start_own(
    test: &str,
    jar: &str,
    class: &str,
    options: &[&str],
    prepare: Option<&str>,
) -> Option<OwnEmulator> {
    let sdk = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("gcloud"))
        .find_map(|gcloud| {
            Some(
                gcloud
                    .canonicalize()
                    .ok()?
                    .parent()?
                    .parent()?
                    .join("platform")
                    .join(jar),
            )
        });
    let Some(jar) = sdk.filter(|jar| jar.is_file()) else {
        skip("emulator", test, "no such emulator beside gcloud");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    let java = || {
        let mut java = Command::new("java");
        java.arg("-Xmx1g")
            .arg("-cp")
            .arg(&jar)
            .arg(class)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        java
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = java();
    if let Some(prepare) = prepare {
        assert!(
            java()
                .arg(prepare)
                .arg(&project)
                .status()
                .unwrap()
                .success()
        );
        command.arg("start");
    }
    command
        .arg("--host=127.0.0.1")
        .arg(format!("--port={port}"))
        .args(options);
    if prepare.is_some() {
        command.arg(&project);
    }
    let emulator = OwnEmulator {
        child: command.spawn().unwrap(),
        host: format!("127.0.0.1:{port}"),
        _folder: folder,
    };
    for _ in 0..600 {
        let begun = RUNTIME.block_on(async {
            reqwest::Client::builder()
                .no_proxy()
                .build()
                .unwrap()
                .get(format!("http://{}/", emulator.host))
                .send()
                .await
        });
        if begun.is_ok_and(|answer| answer.status().is_success()) {
            return Some(emulator);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the emulator did not start");
}

/// The Datastore emulator as `gcloud` starts it, with another share of writes that queries see at
/// once.
pub fn late_emulator(test: &str, consistency: &str) -> Option<OwnEmulator> {
    let options = [
        &format!("--consistency={consistency}")[..],
        "--store_on_disk=false",
    ];
    let class = "com.google.cloud.datastore.emulator.CloudDatastore";
    start_own(
        test,
        "cloud-datastore-emulator/CloudDatastore.jar",
        class,
        &options,
        Some("create"),
    )
}

/// The Firestore emulator in Datastore mode.
pub fn firestore_emulator(test: &str) -> Option<OwnEmulator> {
    let class = "com.google.cloud.datastore.emulator.firestore.CloudFirestore";
    start_own(
        test,
        "cloud-firestore-emulator/cloud-firestore-emulator.jar",
        class,
        &["--database-mode=datastore-mode"],
        None,
    )
}
