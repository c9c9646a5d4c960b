//! What stands before a restore writes anything: the project named a second time, and the target
//! for itself.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::print_error;
use crate::cli::state_dir::HINT as STATE_HINT;
use crate::cli::text::Text;
use crate::model::{TargetSpec, Timestamp};
use crate::restore::lock::{self, LeaseError, LockOwner, TargetLock};
use crate::runtime::private_files::{create_private_folders, private_file_options};
use crate::runtime::workers::Workers;

/// A project's id is shorter.
const MAX_ANSWER_BYTES: u64 = 4 << 10;

/// A real project is named twice: in the plan and by whoever runs it. Another name beside any
/// target is a mistake.
pub async fn confirm(
    context: &Context,
    confirmed: Option<&str>,
    target: &TargetSpec,
) -> Result<(), Failure> {
    match (confirmed, target.project()) {
        (Some(confirmed), Some(project)) if confirmed == project => Ok(()),
        (Some(confirmed), project) => Err(wrong_project(target, project, confirmed)),
        (None, Some(project)) if target.is_real_service() => ask(context, target, project).await,
        (None, _) => Ok(()),
    }
}

/// Another project than the target's was named.
fn wrong_project(target: &TargetSpec, project: Option<&str>, confirmed: &str) -> Failure {
    match project {
        Some(project) => Failure::refused(format!(
            "--confirm names {confirmed:?}, but {target} is project {project}"
        ))
        .hint(format!("pass --confirm {project} if you mean that project")),
        None => Failure::refused(format!(
            "--confirm names a project, but {target} is a folder"
        ))
        .hint("leave out --confirm"),
    }
}

/// The project was not named.
fn unconfirmed(target: &TargetSpec, project: &str) -> Failure {
    Failure::refused(format!("{target} is a real project and is not confirmed"))
        .hint(format!("pass --confirm {project} if you mean that project"))
}

/// Has the project typed at the terminal, where there is one.
async fn ask(context: &Context, target: &TargetSpec, project: &str) -> Result<(), Failure> {
    let is_at_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if context.ui.is_json() || !is_at_terminal {
        return Err(unconfirmed(target, project));
    }
    let question = format!("This writes into {target}. Type the project's id to continue: ");
    match prompt(context, question).await? {
        answer if answer == project => Ok(()),
        answer if answer.is_empty() => Err(unconfirmed(target, project)),
        answer => Err(Failure::refused(format!(
            "{answer:?} is not {project:?}; nothing was written"
        ))
        .hint(format!("type {project} if you mean that project"))),
    }
}

/// Asks at the terminal. A signal ends the question.
async fn prompt(context: &Context, question: String) -> Result<String, Failure> {
    let answering = Workers::run_blocking(move || {
        let (mut answer, mut err) = (String::new(), io::stderr());
        let asked = write!(err, "{}", Text::from(question)).and_then(|()| err.flush());
        let answered = asked.and_then(|()| {
            io::stdin()
                .lock()
                .take(MAX_ANSWER_BYTES)
                .read_line(&mut answer)
        });
        // Whoever cannot be asked has not agreed.
        if answered.is_ok() {
            answer.trim_end_matches(['\n', '\r']).to_owned()
        } else {
            String::new()
        }
    });
    let stop = context.stop.token();
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            // The question ends its line.
            print_error("");
            Err(context.stop.failure())
        }
        answer = answering => answer.map_err(Failure::from),
    }
}

/// Takes the target for this restore alone, among all of this user on this machine.
pub fn lease(context: &Context, target: &TargetSpec, plan: &str) -> Result<TargetLock, Failure> {
    let holder = LockOwner {
        pid: std::process::id(),
        plan: plan.to_owned(),
        since: now(),
    };
    lock::acquire(
        &context.state.open(&context.ui)?.join("leases"),
        target,
        &holder,
    )
    .map_err(|error| match error {
        LeaseError::Held { ref holder, .. } => {
            let failure = Failure::refused(error.to_string());
            match holder {
                Some(LockOwner { pid, .. }) => failure.hint(format!(
                    "wait for the other restore, or stop it with `kill {pid}`"
                )),
                None => failure.hint("wait for the other restore, or stop it"),
            }
        }
        LeaseError::Io { .. } => Failure::usage(error.to_string()).hint(STATE_HINT),
    })
}

/// What others are told of who restores. It is the same in every run of this user on this machine,
/// whose own lease keeps two of them apart: so a run takes over the mark that a killed one left in
/// the target.
pub fn holder(context: &Context) -> Result<String, Failure> {
    let path = context.state.open(&context.ui)?.join("leases").join("name");
    let failed = |error: &io::Error| {
        Failure::usage(format!(
            "writing this machine's name to {} failed: {error}",
            path.display()
        ))
        .hint(STATE_HINT)
    };
    let made = format!(
        "{} ({:016x})",
        rustix::system::uname().nodename().to_string_lossy(),
        RandomState::new().hash_one(std::process::id())
    );
    let folder = path.parent().unwrap_or(&path);
    create_private_folders(folder).map_err(|error| failed(&error))?;
    match private_file_options()
        .write(true)
        .create_new(true)
        .open(&path)
    {
        Ok(mut file) => file
            .write_all(made.as_bytes())
            .map_err(|error| failed(&error))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(&error)),
    }
    let name = fs::read_to_string(&path).map_err(|error| failed(&error))?;
    // Who is about to write it has not got far: then the name is of this run alone.
    Ok(Some(name)
        .filter(|name| name.ends_with(')'))
        .unwrap_or(made))
}

/// The time, for people.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros())
        .ok()
        .and_then(Timestamp::from_micros)
        .unwrap_or(Timestamp::MAX)
}
