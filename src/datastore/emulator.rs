//! Google's Datastore emulator on this machine: where it is, and one of our own that ends with us.
//!
//! Knows programs and addresses (`docs/formats.md` 8). It is Google's and is never bundled; where
//! it is missing, the answer says what was looked for.

use std::env;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use reqwest::Method;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::google::http::{HttpClient, HttpRequest, TimeLimit};

/// An emulator takes about two seconds to start; a loaded machine is given more.
const MAX_START_TIME: Duration = Duration::from_secs(60);

/// One question whether it answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two such questions.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// The variable that names an emulator.
const VARIABLE: &str = "KINDPACK_DATASTORE_EMULATOR";

/// The program of the emulator.
const JAR: &str = "CloudDatastore.jar";

/// What is kept of what an emulator prints: its end.
const MAX_PRINTED_BYTES: usize = 8 << 10;

/// Lines of that which are shown.
const SHOWN_LINES: usize = 10;

/// How long an emulator that has ended may keep its output open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// An emulator that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledEmulator {
    java: PathBuf,
    jar: PathBuf,
}

/// An emulator that runs, and ends when this is dropped.
#[derive(Debug)]
pub struct RunningEmulator {
    child: Child,
    host: String,
    /// Ends the emulator when we are gone, also where we are killed. It is told by the end of its
    /// standard input, which it must outlive.
    keeper: Child,
}

/// Why no emulator can be had.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum EmulatorError {
    /// It, or the Java that runs it, is not installed.
    #[error("{what} is missing: it is neither {places}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        places: &'static str,
    },
    /// What the user names is none.
    #[error("{VARIABLE}: {given:?} {reason}")]
    NotUsable {
        /// What it is set to.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It did not start.
    #[error("the Datastore emulator did not start: {reason}")]
    NoStart {
        /// What happened instead.
        reason: String,
        /// The last lines that it printed.
        printed: Vec<String>,
    },
}

/// Looks for an emulator: `KINDPACK_DATASTORE_EMULATOR` (its jar or script),
/// `cloud_datastore_emulator` on PATH, beside `gcloud`.
///
/// What the variable names is used or refused: no other one takes its place.
///
/// # Errors
/// [`EmulatorError::Missing`] and [`EmulatorError::NotUsable`].
pub fn find() -> Result<InstalledEmulator, EmulatorError> {
    let jar = match env::var_os(VARIABLE).map(PathBuf::from) {
        Some(given) => given_jar(&given)?,
        None => installed_jar().ok_or(EmulatorError::Missing {
            what: "the Datastore emulator",
            places: "on PATH (cloud_datastore_emulator) nor in the folder of gcloud",
        })?,
    };
    let java = installed_java().ok_or(EmulatorError::Missing {
        what: "Java, which runs the Datastore emulator,",
        places: "in JAVA_HOME nor on PATH",
    })?;
    Ok(InstalledEmulator { java, jar })
}

fn installed_java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| java.is_file())
        .or_else(|| on_path("java"))
}

/// The jar that the user names, by itself or by the script beside it.
fn given_jar(given: &Path) -> Result<PathBuf, EmulatorError> {
    let not_usable = |reason| EmulatorError::NotUsable {
        given: given.display().to_string(),
        reason,
    };
    if given.as_os_str().is_empty() {
        return Err(not_usable("is empty"));
    }
    if !given.is_file() {
        return Err(not_usable("is not a file"));
    }
    let jar = if given.extension().is_some_and(|end| end == "jar") {
        Some(given.to_owned())
    } else {
        jar_beside(given)
    };
    jar.ok_or_else(|| not_usable("is neither a jar nor beside a CloudDatastore.jar"))
}

/// The jar of an emulator that is installed where Google's tools put it.
fn installed_jar() -> Option<PathBuf> {
    on_path("cloud_datastore_emulator")
        .and_then(|script| jar_beside(&script))
        .or_else(jar_of_sdk)
}

fn jar_of_sdk() -> Option<PathBuf> {
    let gcloud = on_path("gcloud")?.canonicalize().ok()?;
    let sdk = gcloud.parent()?.parent()?;
    let jar = sdk.join("platform/cloud-datastore-emulator").join(JAR);
    jar.is_file().then_some(jar)
}

fn jar_beside(script: &Path) -> Option<PathBuf> {
    Some(script.canonicalize().ok()?.parent()?.join(JAR)).filter(|jar| jar.is_file())
}

/// A program on PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

impl InstalledEmulator {
    /// Starts a private one, in memory, on a free port of this machine, and waits until it answers.
    ///
    /// # Errors
    /// [`EmulatorError::NoStart`].
    pub async fn start(&self) -> Result<RunningEmulator, EmulatorError> {
        let port = free_port().map_err(no_start)?;
        let (output, printed) = OutputTail::spawn().map_err(no_start)?;
        let child = self.spawn(port, output).map_err(no_start)?;
        let running = RunningEmulator {
            keeper: keep(&child).map_err(no_start)?,
            child,
            host: format!("127.0.0.1:{port}"),
        };
        running.when_ready(printed).await
    }

    fn spawn(&self, port: u16, output: std::io::PipeWriter) -> std::io::Result<Child> {
        Command::new(&self.java)
            .arg("-cp")
            .arg(&self.jar)
            .args([
                "com.google.cloud.datastore.emulator.CloudDatastore",
                "start",
                "--host=127.0.0.1",
                "--testing",
            ])
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C at the terminal is for us: who uses the emulator comes to an end before it
            // does.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// A port of this machine that is free now. With port 0 the emulator binds some port and does not
/// say which.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn no_start(reason: impl ToString) -> EmulatorError {
    EmulatorError::NoStart {
        reason: reason.to_string(),
        printed: Vec::new(),
    }
}

/// What an emulator prints: the end of it, for as long as it runs.
struct OutputTail {
    end: Arc<Mutex<Vec<u8>>>,
    is_over: tokio::sync::oneshot::Receiver<()>,
}

impl OutputTail {
    /// Begins to collect what is written into the pipe that it gives.
    fn spawn() -> std::io::Result<(std::io::PipeWriter, Self)> {
        let (mut reader, writer) = std::io::pipe()?;
        let end = Arc::new(Mutex::new(Vec::new()));
        let (over, is_over) = tokio::sync::oneshot::channel();
        let kept = end.clone();
        // A thread of its own: it reads as long as the emulator runs, which nobody waits for.
        std::thread::Builder::new()
            .name("emulator output".to_owned())
            .spawn(move || {
                let mut chunk = [0; 1 << 10];
                while let Ok(len @ 1..) = reader.read(&mut chunk) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend_from_slice(
                        chunk
                            .get(..len)
                            .expect("a read fills no more than the chunk"),
                    );
                    let surplus = kept.len().saturating_sub(MAX_PRINTED_BYTES);
                    kept.drain(..surplus);
                }
                over.send(()).ok();
            })?;
        Ok((writer, OutputTail { end, is_over }))
    }

    /// The last lines of an emulator that has ended.
    async fn at_end(mut self) -> Vec<String> {
        timeout(OUTPUT_TIMEOUT, &mut self.is_over).await.ok();
        self.lines()
    }

    /// The last lines so far.
    fn lines(&self) -> Vec<String> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&end).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(SHOWN_LINES))
            .map(|line| (*line).to_owned())
            .collect()
    }
}

/// A process that kills the emulator as soon as our end of its standard input is closed, however we
/// end.
fn keep(emulator: &Child) -> std::io::Result<Child> {
    // The number 0 would name ourselves.
    let id = emulator
        .id()
        .ok_or_else(|| std::io::Error::other("it ended at once"))?
        .to_string();
    Command::new("sh")
        .args([
            "-c",
            "trap '' INT TERM HUP; cat > /dev/null; kill -9 \"$1\"",
            "sh",
            &id,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Whether something listens at `HOST:PORT`.
pub async fn is_listening(host: &str) -> bool {
    let connected = timeout(PROBE_TIMEOUT, TcpStream::connect(host)).await;
    matches!(connected, Ok(Ok(_)))
}

/// Asks whether an emulator answers.
struct ReadinessProbe {
    client: HttpClient,
    address: String,
}

impl ReadinessProbe {
    fn new(host: &str) -> Result<Self, EmulatorError> {
        let client = HttpClient::new(PROBE_TIMEOUT, false);
        Ok(ReadinessProbe {
            client: client.map_err(no_start)?,
            address: format!("http://{host}/"),
        })
    }

    async fn is_answered(&self) -> bool {
        let request = HttpRequest {
            method: Method::GET,
            url: &self.address,
            resource: "emulator",
            headers: HeaderMap::new(),
            body: Vec::new(),
            limit: TimeLimit::Total(PROBE_TIMEOUT),
        };
        let answer = self.client.send(request).await;
        answer.is_ok_and(|answer| answer.is_success())
    }
}

impl RunningEmulator {
    /// Waits until it answers.
    async fn when_ready(mut self, printed: OutputTail) -> Result<Self, EmulatorError> {
        let probe = ReadinessProbe::new(&self.host)?;
        let begun = Instant::now();
        while begun.elapsed() < MAX_START_TIME {
            // On a port that is taken it ends at once, and somebody else answers.
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(EmulatorError::NoStart {
                    reason: format!("it ended ({status})"),
                    printed: printed.at_end().await,
                });
            }
            if probe.is_answered().await {
                return Ok(self);
            }
            sleep(PROBE_INTERVAL).await;
        }
        Err(EmulatorError::NoStart {
            reason: format!("it did not answer within {} s", MAX_START_TIME.as_secs()),
            printed: printed.lines(),
        })
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Ends it and waits until it has gone.
    pub async fn stop(mut self) {
        // The keeper goes first: it knows a process by its number only, which may soon be
        // another's.
        self.keeper.kill().await.ok();
        self.child.kill().await.ok();
    }
}
