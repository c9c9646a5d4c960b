//! Google's emulators of Datastore on this machine: where they are, and one of our own that ends
//! with us.
//!
//! Knows programs and addresses (`docs/formats.md` 8). They are Google's and are never bundled;
//! where one is missing, the answer says what was looked for.

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

use super::emulator_product::EmulatorProduct;
use crate::google::http::{HttpClient, HttpRequest, TimeLimit};

/// An emulator takes about two seconds to start; a loaded machine is given more.
const MAX_START_TIME: Duration = Duration::from_secs(60);

/// One question whether it answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two such questions.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How an emulator is installed and started.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// The variable that names it.
    variable: &'static str,
    /// What it is called where it is missing.
    title: &'static str,
    /// Where it is looked for.
    places: &'static str,
    /// Its component of `gcloud`, which is its folder as well.
    component: &'static str,
    /// Its script on PATH.
    script: &'static str,
    jar: &'static str,
    class: &'static str,
    /// With an address, these start one that keeps everything in memory.
    arguments: &'static [&'static str],
}

const DATASTORE: Program = Program {
    variable: "KINDPACK_DATASTORE_EMULATOR",
    title: "the Datastore emulator",
    places: "on PATH (cloud_datastore_emulator) nor in the folder of gcloud",
    component: "cloud-datastore-emulator",
    script: "cloud_datastore_emulator",
    jar: "CloudDatastore.jar",
    class: "com.google.cloud.datastore.emulator.CloudDatastore",
    arguments: &["start", "--testing"],
};

const FIRESTORE: Program = Program {
    variable: "KINDPACK_FIRESTORE_EMULATOR",
    title: "the Firestore emulator",
    places: "on PATH (cloud_firestore_emulator) nor in the folder of gcloud",
    component: "cloud-firestore-emulator",
    script: "cloud_firestore_emulator",
    jar: "cloud-firestore-emulator.jar",
    class: "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
    arguments: &["--database-mode=datastore-mode"],
};

/// What is kept of what an emulator prints: its end.
const MAX_PRINTED_BYTES: usize = 8 << 10;

/// Lines of that which are shown.
const SHOWN_LINES: usize = 10;

/// How long an emulator that has ended may keep its output open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// An emulator that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledEmulator {
    product: EmulatorProduct,
    java: PathBuf,
    jar: PathBuf,
}

/// An emulator that runs, and ends when this is dropped.
#[derive(Debug)]
pub struct RunningEmulator {
    product: EmulatorProduct,
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
    /// Java, which runs it, is not installed.
    #[error("Java, which runs the emulator, is missing: it is neither in JAVA_HOME nor on PATH")]
    NoJava,
    /// It is not installed.
    #[error("{what} is missing: it is neither {places}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        places: &'static str,
        /// The component of `gcloud` that installs an emulator.
        component: &'static str,
        /// The variable that can say where it is.
        variable: &'static str,
    },
    /// What the user names is none.
    #[error("{variable}: {given:?} {reason}")]
    NotUsable {
        /// The variable that names it.
        variable: &'static str,
        /// What it is set to.
        given: String,
        /// What is wrong with it.
        reason: String,
        /// The jar of the emulator.
        jar: &'static str,
    },
    /// It did not start.
    #[error("the {product} did not start: {reason}")]
    NoStart {
        /// Which one.
        product: EmulatorProduct,
        /// What happened instead.
        reason: String,
        /// The last lines that it printed.
        printed: Vec<String>,
    },
}

/// Looks for an emulator: one product, or the newest that is here. Its variable names the jar or
/// the script; else it is on PATH, or beside `gcloud`.
///
/// What a variable names is used or refused: no other emulator takes its place.
///
/// # Errors
/// [`EmulatorError::Missing`] and [`EmulatorError::NotUsable`].
pub fn find(wanted: Option<EmulatorProduct>) -> Result<InstalledEmulator, EmulatorError> {
    let products = EmulatorProduct::NEWEST_FIRST.into_iter();
    let products = products.filter(|product| wanted.is_none_or(|wanted| wanted == *product));
    let (product, jar) = find_jar(products.clone(), Program::named_jar)
        .or_else(|| find_jar(products, |program| program.installed_jar().map(Ok)))
        .ok_or_else(|| missing(wanted))?;
    Ok(InstalledEmulator {
        product,
        java: installed_java().ok_or(EmulatorError::NoJava)?,
        jar: jar?,
    })
}

type FoundJar = Result<PathBuf, EmulatorError>;

/// The first of some products that has a jar.
fn find_jar(
    mut products: impl Iterator<Item = EmulatorProduct>,
    jar: impl Fn(&Program) -> Option<FoundJar>,
) -> Option<(EmulatorProduct, FoundJar)> {
    products.find_map(|product| Some((product, jar(program(product))?)))
}

fn program(product: EmulatorProduct) -> &'static Program {
    match product {
        EmulatorProduct::Firestore => &FIRESTORE,
        EmulatorProduct::Datastore => &DATASTORE,
    }
}

fn missing(wanted: Option<EmulatorProduct>) -> EmulatorError {
    let newest = program(wanted.unwrap_or(EmulatorProduct::Firestore));
    let (what, places) = match wanted {
        Some(_) => (newest.title, newest.places),
        None => (
            "an emulator of Datastore",
            "on PATH (cloud_firestore_emulator, cloud_datastore_emulator) nor in the folder of gcloud",
        ),
    };
    EmulatorError::Missing {
        what,
        places,
        component: newest.component,
        variable: newest.variable,
    }
}

fn installed_java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| java.is_file())
        .or_else(|| on_path("java"))
}

impl Program {
    /// The jar that the user names, or the one beside the script that the user names.
    fn named_jar(&self) -> Option<FoundJar> {
        let given = PathBuf::from(env::var_os(self.variable)?);
        Some(self.jar_of(&given))
    }

    fn jar_of(&self, given: &Path) -> FoundJar {
        if given.as_os_str().is_empty() {
            return Err(self.not_usable(given, "is empty"));
        }
        if !given.is_file() {
            return Err(self.not_usable(given, "is not a file"));
        }
        if given.extension().is_some_and(|end| end == "jar") {
            return Ok(given.to_owned());
        }
        let reason = format!("is neither a jar nor beside a {}", self.jar);
        self.jar_beside(given)
            .ok_or_else(|| self.not_usable(given, reason))
    }

    fn not_usable(&self, given: &Path, reason: impl Into<String>) -> EmulatorError {
        EmulatorError::NotUsable {
            variable: self.variable,
            given: given.display().to_string(),
            reason: reason.into(),
            jar: self.jar,
        }
    }

    /// The jar where Google's tools have installed it.
    fn installed_jar(&self) -> Option<PathBuf> {
        on_path(self.script)
            .and_then(|script| self.jar_beside(&script))
            .or_else(|| self.jar_of_sdk())
    }

    fn jar_of_sdk(&self) -> Option<PathBuf> {
        let gcloud = on_path("gcloud")?.canonicalize().ok()?;
        let sdk = gcloud.parent()?.parent()?;
        let jar = sdk.join("platform").join(self.component).join(self.jar);
        jar.is_file().then_some(jar)
    }

    fn jar_beside(&self, script: &Path) -> Option<PathBuf> {
        Some(script.canonicalize().ok()?.parent()?.join(self.jar)).filter(|jar| jar.is_file())
    }
}

/// A program on PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

impl InstalledEmulator {
    /// Which one it is.
    pub fn product(&self) -> EmulatorProduct {
        self.product
    }

    /// Starts a private one, in memory, on a free port of this machine, and waits until it answers.
    ///
    /// # Errors
    /// [`EmulatorError::NoStart`].
    pub async fn start(&self) -> Result<RunningEmulator, EmulatorError> {
        let no_start = |error: std::io::Error| no_start(self.product, error);
        let port = free_port().map_err(no_start)?;
        let (output, printed) = OutputTail::spawn().map_err(no_start)?;
        let child = self.spawn(port, output).map_err(no_start)?;
        let running = RunningEmulator {
            product: self.product,
            keeper: keep(&child).map_err(no_start)?,
            child,
            host: format!("127.0.0.1:{port}"),
        };
        running.when_ready(printed).await
    }

    fn spawn(&self, port: u16, output: std::io::PipeWriter) -> std::io::Result<Child> {
        let Program {
            class, arguments, ..
        } = program(self.product);
        Command::new(&self.java)
            .arg("-cp")
            .arg(&self.jar)
            .arg(class)
            .args(*arguments)
            .arg("--host=127.0.0.1")
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

fn no_start(product: EmulatorProduct, reason: impl ToString) -> EmulatorError {
    EmulatorError::NoStart {
        product,
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
    fn new(product: EmulatorProduct, host: &str) -> Result<Self, EmulatorError> {
        let client = HttpClient::new(PROBE_TIMEOUT, false);
        Ok(ReadinessProbe {
            client: client.map_err(|error| no_start(product, error))?,
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
        let probe = ReadinessProbe::new(self.product, &self.host)?;
        let begun = Instant::now();
        while begun.elapsed() < MAX_START_TIME {
            // On a port that is taken it ends at once, and somebody else answers.
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(EmulatorError::NoStart {
                    product: self.product,
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
            product: self.product,
            reason: format!("it did not answer within {} s", MAX_START_TIME.as_secs()),
            printed: printed.lines(),
        })
    }

    /// Which one it is.
    pub fn product(&self) -> EmulatorProduct {
        self.product
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
