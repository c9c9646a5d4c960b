//! The exit codes of the contract, as `docs/cli.md` lists them.

use std::process::ExitStatus;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    Done = 0,
    Internal = 1,
    Usage = 2,
    Incomplete = 3,
    Damaged = 4,
    Refused = 5,
    Service = 6,
    Partial = 7,
    ChangesPending = 8,
    Interrupted = 130,
    Terminated = 143,
}

/// What the codes mean, for the help and the manual.
pub const EXIT_CODES: [(&str, &str); 10] = [
    ("0", "done"),
    ("1", "internal error"),
    ("2", "wrong command line or configuration"),
    (
        "3",
        "backup incomplete: a kind is missing, unfinished or still growing",
    ),
    (
        "4",
        "damaged: bytes, checksums, counts or structure are wrong",
    ),
    (
        "5",
        "refused: stale plan, doubtful target, name taken or no permission",
    ),
    ("6", "a service failed after all retries, or a disk failed"),
    ("7", "incomplete; rerun the same command to continue"),
    ("8", "plan --detailed-exitcode: there are steps to run"),
    (
        "130, 143",
        "interrupted, terminated; rerun the same command to continue",
    ),
];

impl ExitCode {
    /// The code with which a process of kindpack ended.
    pub fn of_process(status: ExitStatus) -> Self {
        const ALL: [ExitCode; 11] = [
            ExitCode::Done,
            ExitCode::Internal,
            ExitCode::Usage,
            ExitCode::Incomplete,
            ExitCode::Damaged,
            ExitCode::Refused,
            ExitCode::Service,
            ExitCode::Partial,
            ExitCode::ChangesPending,
            ExitCode::Interrupted,
            ExitCode::Terminated,
        ];
        ALL.into_iter()
            .find(|code| status.code() == Some(i32::from(*code as u8)))
            .unwrap_or(ExitCode::Internal)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}
