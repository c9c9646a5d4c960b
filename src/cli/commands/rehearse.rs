//! `kindpack rehearse ARCHIVE`: the proof that a backup restores, in an emulator of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use super::archive::{Found, find, no_bucket};
use super::plan::make;
use super::restore::target_of;
use crate::archive::ArchiveFile;
use crate::cli::args::RehearseArgs;
use crate::cli::failure::{Code, Failure};
use crate::cli::plan_options::environment;
use crate::cli::restore_summary::{self, Told};
use crate::cli::{Context, Ended};
use crate::datastore::emulator::{self, EmulatorError};
use crate::plan::{Choices, TargetSpec};
use crate::progress::Observer as _;
use crate::restore::journal::Journal;
use crate::restore::journal::file::JournalFile;
use crate::restore::{Check, Job, Options, restore};
use crate::verify::{Depth, verify};

pub const WHAT: &str = "cannot rehearse";

/// The project of a rehearsal whose archive names none, as it holds no entity.
const NO_PROJECT: &str = "rehearsal";

pub async fn run(context: &Context, args: RehearseArgs) -> Ended {
    let ui = &context.ui;
    for path in &args.report {
        no_bucket(WHAT, path)?;
    }
    let installed = emulator::find().map_err(|error| no_emulator(WHAT, &error))?;
    let Found {
        store,
        object,
        title,
    } = find(context, WHAT, &args.archive).await?;
    // A restore reads entities only. Whatever else is wrong with the archive is found by reading
    // all of it.
    let verified = verify(
        store.clone(),
        object.clone(),
        title.clone(),
        Depth::Full,
        &context.workers,
        ui.as_ref(),
    )
    .await;
    let verified = verified.map_err(|error| Failure::verify(&error))?;
    ui.end();
    if !verified.problems.is_empty() {
        return Err(Failure {
            code: Code::Damaged,
            what: WHAT.to_owned(),
            why: verified.problems,
            hint: None,
        });
    }
    let archive = ArchiveFile::open(store, object, title)
        .await
        .map(Arc::new)
        .map_err(|error| Failure::archive(WHAT, &error))?;
    let running = installed
        .start()
        .await
        .map_err(|error| no_emulator(WHAT, &error))?;
    let ended = rehearse(context, &args, &archive, running.host()).await;
    running.stop().await;
    ended
}

async fn rehearse(
    context: &Context,
    args: &RehearseArgs,
    archive: &Arc<ArchiveFile>,
    host: &str,
) -> Ended {
    let source = archive.manifest().backup.project.as_str();
    let project = if source.is_empty() {
        NO_PROJECT
    } else {
        source
    };
    let choices = Choices::new(TargetSpec::Emulator {
        project: project.to_owned(),
        host: Some(host.to_owned()),
    });
    let plan = make(context, WHAT, archive, &choices).await?;
    let options = Options {
        keep_going: true,
        parallel: NonZeroUsize::from(args.parallel),
        check: Check::Entities,
        plan_name: WHAT.to_owned(),
        ..Options::default()
    };
    let begun = Instant::now();
    let job = Job {
        plan: &plan,
        archive,
        archive_ref: &plan.archive,
        environment: &environment(),
        target: target_of(context, &plan.target)?,
        import: None,
        redact_key: None,
        journal: &mut JournalFile::in_memory(Journal::default()),
        options: &options,
        workers: &context.workers,
    };
    let restored = restore(job, context.ui.as_ref()).await;
    context.ui.end();
    restore_summary::tell(
        context,
        &Told {
            plan: &plan,
            options: &options,
            reports: &args.report,
            begun,
            rehearsal: true,
            piped_plan: None,
        },
        restored,
    )
}

/// Why there is no emulator.
pub fn no_emulator(what: &str, error: &EmulatorError) -> Failure {
    match error {
        EmulatorError::Missing { .. } => Failure::usage(what, error.to_string()).hint(
            "`gcloud components install cloud-datastore-emulator` installs it; KINDPACK_DATASTORE_EMULATOR names one that is elsewhere",
        ),
        EmulatorError::NotUsable { .. } => Failure::usage(what, error.to_string())
            .hint("set KINDPACK_DATASTORE_EMULATOR to the emulator's CloudDatastore.jar or script, or unset it"),
        EmulatorError::NoStart { printed, .. } => {
            let mut failure = Failure::new(Code::Service, what, error.to_string());
            failure.why.extend(printed.iter().map(|line| format!("it printed: {line}")));
            failure
        }
    }
}
