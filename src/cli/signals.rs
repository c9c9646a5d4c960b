//! Ctrl-C, requests to terminate and closed terminals: the first asks a command to stop, a second
//! one ends it.

use std::sync::OnceLock;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::ExitCode;
use super::failure::Failure;

/// Whether somebody requested a stop, and how.
#[derive(Debug, Default)]
pub struct StopRequest {
    token: CancellationToken,
    code: OnceLock<ExitCode>,
}

impl StopRequest {
    /// Asks for a stop.
    pub fn request(&self, code: ExitCode) {
        // The first one counts.
        self.code.get_or_init(|| code);
        self.token.cancel();
    }

    /// What whoever can stop in good order listens to.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// How a command ends that was stopped and has nothing to bring to its end.
    pub fn failure(&self) -> Failure {
        self.failure_of("stopped; no partial files were left")
    }

    /// How a command ends that was stopped.
    pub fn failure_of(&self, why: &str) -> Failure {
        let code = self.code.get().copied().unwrap_or(ExitCode::Interrupted);
        let prefix = if code == ExitCode::Terminated {
            "terminated"
        } else {
            "interrupted"
        };
        Failure::new(code, why)
            .prefix(prefix)
            .hint("run the same command again to continue")
    }
}

/// The signals that ask for a stop.
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    /// The terminal was closed.
    hang_up: Option<Signal>,
    /// Heard so that a write beyond the limit of file sizes fails as others do, and does not end
    /// the process.
    _file_too_large: Option<Signal>,
}

impl Signals {
    /// Listens from now on. Where that cannot be, the system's own way of ending a process remains.
    pub fn new() -> Self {
        Signals {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            // `nohup` means that the process is to go on.
            hang_up: if is_ignored(rustix::process::Signal::HUP) {
                None
            } else {
                signal(SignalKind::hangup()).ok()
            },
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
                .ok(),
        }
    }

    /// Waits for the next one; gives the exit code that it asks for.
    pub async fn next(&mut self) -> ExitCode {
        tokio::select! {
            () = heard(&mut self.interrupt) => ExitCode::Interrupted,
            () = heard(&mut self.terminate) => ExitCode::Terminated,
            () = heard(&mut self.hang_up) => ExitCode::Terminated,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with a signal ignored, as far as the system says so.
fn is_ignored(signal: rustix::process::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    ignored >> (signal.as_raw() - 1) & 1 == 1
}
