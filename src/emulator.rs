//! Google's Datastore emulator on this machine: where it is, and one of our own that ends with us.
//!
//! Knows programs and addresses (`docs/formats.md` 8). It is Google's and is never bundled; where it is missing, the answer says what was
//! looked for.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// An emulator takes about two seconds to start; a loaded machine is given more.
const START_MAX: Duration = Duration::from_secs(60);

/// An emulator that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    java: PathBuf,
    jar: PathBuf,
}

/// An emulator that runs, and ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    host: String,
    /// Ends the emulator when we are gone, also where we are killed. It is told by the end of its standard input, which it must outlive.
    keeper: Child,
}

/// Why no emulator can be had.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// It, or the Java that runs it, is not installed.
    #[error("{what}: expected it {places}, found none")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        places: &'static str,
    },
    /// It did not start.
    #[error("Datastore emulator: expected it to answer within {} s, found {found}", START_MAX.as_secs())]
    NoStart {
        /// What happened instead.
        found: String,
    },
}

/// Looks for an emulator: `KINDPACK_DATASTORE_EMULATOR` (its jar or script), `cloud_datastore_emulator` on PATH, beside `gcloud`.
///
/// # Errors
/// [`EmulatorError::Missing`].
pub fn find() -> Result<Installed, EmulatorError> {
    const JAR: &str = "CloudDatastore.jar";
    let beside = |script: PathBuf| script.canonicalize().ok().and_then(|script| Some(script.parent()?.join(JAR)));
    let given = env::var_os("KINDPACK_DATASTORE_EMULATOR").map(PathBuf::from);
    let given = given.and_then(|given| if given.extension().is_some_and(|end| end == "jar") { Some(given) } else { beside(given) });
    let script = || on_path("cloud_datastore_emulator").and_then(beside);
    let sdk = || {
        let gcloud = on_path("gcloud")?.canonicalize().ok()?;
        Some(gcloud.parent()?.parent()?.join("platform/cloud-datastore-emulator").join(JAR))
    };
    let jar = [given, script(), sdk()].into_iter().flatten().find(|jar| jar.is_file()).ok_or(EmulatorError::Missing {
        what: "Datastore emulator",
        places: "by KINDPACK_DATASTORE_EMULATOR, as cloud_datastore_emulator on PATH, or in gcloud's folder",
    })?;
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.is_file());
    let java = home
        .or_else(|| on_path("java"))
        .ok_or(EmulatorError::Missing { what: "Java, which runs the Datastore emulator", places: "in JAVA_HOME or on PATH" })?;
    Ok(Installed { java, jar })
}

/// A program on PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

impl Installed {
    /// Starts a private one, in memory, on a free port of this machine, and waits until it answers.
    ///
    /// # Errors
    /// [`EmulatorError::NoStart`].
    pub async fn start(&self) -> Result<Running, EmulatorError> {
        let failed = |found: String| EmulatorError::NoStart { found };
        // With port 0 it binds some port and does not say which.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(|error| failed(error.to_string()))?.port();
        let mut child = Command::new(&self.java)
            .arg("-cp")
            .arg(&self.jar)
            .args(["com.google.cloud.datastore.emulator.CloudDatastore", "start", "--host=127.0.0.1", "--testing"])
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for us: who uses the emulator comes to an end before it does.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let keeper = keep(&child).map_err(|error| failed(error.to_string()))?;
        let host = format!("127.0.0.1:{port}");
        let client =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().map_err(|error| failed(error.to_string()))?;
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            // On a port that is taken it ends at once, and somebody else answers.
            if let Ok(Some(status)) = child.try_wait() {
                return Err(failed(format!("its end ({status})")));
            }
            if let Ok(answer) = client.get(format!("http://{host}/")).send().await
                && answer.status().is_success()
            {
                return Ok(Running { child, host, keeper });
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(failed("no answer".to_owned()))
    }
}

/// A process that kills the emulator as soon as our end of its standard input is closed, however we end.
fn keep(emulator: &Child) -> std::io::Result<Child> {
    let id = emulator.id().unwrap_or_default().to_string();
    Command::new("sh")
        .args(["-c", "trap '' INT TERM HUP; cat > /dev/null; kill -9 \"$1\"", "sh", &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

impl Running {
    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Ends it and waits until it has gone.
    pub async fn stop(mut self) {
        // The keeper goes first: it knows a process by its number only, which may soon be another's.
        self.keeper.kill().await.ok();
        self.child.kill().await.ok();
    }
}
