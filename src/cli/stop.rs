//! Ctrl-C and requests to terminate: the first asks a command to stop, a second one ends it.

use std::sync::OnceLock;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::{Code, Failure};

/// Whether somebody asked for a stop, and how.
#[derive(Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    code: OnceLock<Code>,
}

impl Stop {
    /// Asks for a stop.
    pub fn ask(&self, code: Code) {
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
        self.failure_of("stopped cleanly: nothing is half written under a final name")
    }

    /// How a command ends that was stopped.
    pub fn failure_of(&self, why: &str) -> Failure {
        let code = self.code.get().copied().unwrap_or(Code::Interrupted);
        let what = if code == Code::Terminated { "terminated" } else { "interrupted" };
        Failure::new(code, what, why).hint("the same command goes on")
    }
}

/// The signals that ask for a stop.
pub struct Signals(Option<(Signal, Signal)>);

impl Signals {
    /// Listens from now on. Where that cannot be, the system's own way of ending a process remains.
    pub fn new() -> Self {
        Signals(signal(SignalKind::interrupt()).and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?))).ok())
    }

    /// Waits for the next one; gives the exit code that it asks for.
    pub async fn next(&mut self) -> Code {
        let Some((interrupt, terminate)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => Code::Interrupted,
            _ = terminate.recv() => Code::Terminated,
        }
    }
}
