//! Commands of the user's that run between the steps of a restore.
//!
//! Knows shells and processes, and nothing of steps. What a hook prints goes to standard error, so
//! that events stay events.

use std::io;
use std::os::fd::AsFd as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What no hook needs to know of our own environment.
const SECRETS: [&str; 2] = ["KINDPACK_REDACT_KEY", "KINDPACK_SIGN_PASSWORD"];

/// A command to be run through `sh -c`.
#[derive(Debug, Clone)]
pub struct Hook<'a> {
    /// The option that it was given by, such as `--after-step`. The command itself may hold what
    /// nobody should read in a log.
    pub option: &'static str,
    /// The command.
    pub command: &'a str,
    /// What is added to the environment.
    pub variables: Vec<(&'static str, String)>,
    /// How long it may take.
    pub limit: Duration,
}

/// A hook that did not succeed.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum HookError {
    /// It ended with another code than 0.
    #[error("the command of {option} failed: {status}")]
    Failed {
        /// The option.
        option: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took too long and was killed.
    #[error("the command of {option} did not end within {seconds} s and was killed")]
    TooLong {
        /// The option.
        option: &'static str,
        /// How long it may take.
        seconds: u64,
    },
    /// The shell could not be run.
    #[error("the command of {option} needs sh, which does not start: {source}")]
    NoShell {
        /// The option.
        option: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Whatever still runs of a hook ends with this, also when the restore itself is ended at once.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

impl Hook<'_> {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// [`HookError`] unless it exits with 0 in time.
    pub async fn run(&self) -> Result<(), HookError> {
        let mut child = self.spawn().map_err(|source| self.no_shell(source))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = ProcessGroup(id.and_then(Pid::from_raw));
        let ended = timeout(self.limit, child.wait()).await;
        if let Ok(Ok(_)) = &ended {
            // What a hook leaves running in the background is its own affair.
            group.0 = None;
        }
        match ended {
            Ok(Ok(status)) => self.check_status(status),
            Ok(Err(source)) => Err(self.no_shell(source)),
            Err(_) => Err(self.too_long()),
        }
    }

    /// Starts the command, in a group of its own: Ctrl-C at the terminal is for the restore, which
    /// lets its hook come to an end.
    fn spawn(&self) -> io::Result<Child> {
        let out = io::stderr().as_fd().try_clone_to_owned()?;
        let mut command = Command::new("sh");
        command.args(["-c", self.command]).process_group(0);
        command.stdin(Stdio::null()).stdout(out);
        for name in SECRETS {
            command.env_remove(name);
        }
        let variables = self.variables.iter();
        command
            .envs(variables.map(|(name, value)| (name, value)))
            .spawn()
    }

    fn check_status(&self, status: ExitStatus) -> Result<(), HookError> {
        if status.success() {
            return Ok(());
        }
        let option = self.option;
        Err(HookError::Failed { option, status })
    }

    fn no_shell(&self, source: io::Error) -> HookError {
        let option = self.option;
        HookError::NoShell { option, source }
    }

    fn too_long(&self) -> HookError {
        HookError::TooLong {
            option: self.option,
            seconds: self.limit.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(command: &str, limit: Duration) -> Hook<'_> {
        Hook {
            option: "--after-step",
            command,
            variables: vec![("KINDPACK_STEP", "7".to_owned())],
            limit,
        }
    }

    #[tokio::test]
    async fn hook_gets_variables_and_exit_code_counts() {
        let long = Duration::from_secs(60);
        hook(
            "test \"$KINDPACK_STEP\" = 7 && test -z \"$KINDPACK_REDACT_KEY\"",
            long,
        )
        .run()
        .await
        .unwrap();
        let error = hook("exit 3 # secret", long).run().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the command of --after-step failed: exit status: 3"
        );
    }

    #[tokio::test]
    async fn slow_hook_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let command = format!(
            "(sleep 600; touch {0}) & echo $! > {0}.pid; wait",
            mark.display()
        );
        let error = hook(&command, Duration::from_millis(300))
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, HookError::TooLong { .. }), "{error}");
        if let Ok(pid) = std::fs::read_to_string(folder.path().join("mark.pid")) {
            let pid = pid.trim().parse().ok().and_then(Pid::from_raw).unwrap();
            let gone = || rustix::process::test_kill_process(pid).is_err() || is_zombie(pid);
            while !gone() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A process that has ended and that nobody has asked after yet.
    fn is_zombie(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
    }
}
