//! The plan that `restore` is to run: read from a file, or made in one go and kept.
//!
//! Knows files and archives. What is done with the plan is `restore`'s affair.

use crate::model::TargetSpec;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::Archive;
use crate::cli::args::RestoreArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::input_file::InputFile;
use crate::cli::kept_plans::{self, MAX_PLAN_BYTES};
use crate::cli::open_archive::{ArchiveLocation, find_at, with_title};
use crate::cli::plan_options::{choices, environment};
use crate::cli::plan_view::show;
use crate::cli::text::shell_quote;
use crate::encryption::ENCRYPTED_MAGIC;
use crate::model::address::{host_and_port, without_user};
use crate::plan::{ArchiveRef, CheckedPlan, Choices, Environment, Plan};
use crate::restore::check_journal;
use crate::restore::journal::Journal;
use crate::restore::journal::file::{JournalFile, JournalFileError};
use crate::restore::prepare::{self, archive_ref};
use crate::runtime::workers::Workers;
use crate::store::{Location, open_object};

/// A plan that is to be run.
pub struct LoadedPlan {
    pub plan: Plan,
    /// The same, where the planner has just made it.
    pub checked: Option<CheckedPlan>,
    pub archive: Arc<Archive>,
    /// The archive as it is now.
    pub archive_ref: ArchiveRef,
    /// Where the plan is, or will be kept.
    pub path: PathBuf,
    pub keeper: PlanOrigin,
}

/// Who keeps a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanOrigin {
    /// The user, in a file.
    User,
    /// kindpack, since an earlier run of the same restore.
    Earlier,
    /// kindpack, from this run on.
    New,
}

/// The plan that the arguments mean.
pub async fn load_or_make_plan(
    context: &Context,
    args: &RestoreArgs,
) -> Result<LoadedPlan, Failure> {
    let Some((plan, place)) = read_plan(args).await? else {
        let (plan, archive) = make_and_show(context, args).await?;
        return load_kept(context, args, plan, archive);
    };
    let archive = open_planned(context, &plan).await?;
    let archive_ref = archive_ref(&archive)
        .await
        .map_err(Failure::from_archive_store)?;
    let (path, keeper, plan) = match place {
        Some(path) => (path, PlanOrigin::User, plan),
        None => find_kept(context, args, plan)?,
    };
    Ok(LoadedPlan {
        plan,
        checked: None,
        archive,
        archive_ref,
        path,
        keeper,
    })
}

impl LoadedPlan {
    /// Whether kindpack keeps the plan, and not the user.
    pub fn is_kept(&self) -> bool {
        self.keeper != PlanOrigin::User
    }

    /// Proves that the plan may be run.
    pub fn check(&self) -> Result<CheckedPlan, Failure> {
        let manifest = self.archive.manifest();
        Ok(CheckedPlan::check(
            &self.plan,
            manifest,
            &self.archive_ref,
            &environment(),
        )?)
    }

    /// Keeps the plan, unless the user does. Old ones go.
    pub async fn keep(&self) -> Result<(), Failure> {
        if self.keeper == PlanOrigin::User {
            return Ok(());
        }
        if self.keeper == PlanOrigin::New {
            kept_plans::write(&self.path, &self.plan).await?;
        }
        let (path, folder) = (
            self.path.clone(),
            self.path.parent().unwrap_or(Path::new(".")).to_owned(),
        );
        Workers::run_blocking(move || kept_plans::remove_old(&folder, &path))
            .await
            .map_err(Failure::from)
    }

    /// Takes away what this run has kept, where nothing was begun. `journal` is still locked.
    pub fn discard_unused(&self, journal: &JournalFile) {
        if journal.journal().opened.is_none() {
            if self.keeper == PlanOrigin::New {
                fs::remove_file(&self.path).ok();
            }
            journal.remove_if_empty();
        }
    }
}

/// The plan that the argument is, and its path where a journal may stand beside it; or `None` where
/// the argument is an archive.
async fn read_plan(args: &RestoreArgs) -> Result<Option<(Plan, Option<PathBuf>)>, Failure> {
    // Plans are files of this machine; in a bucket there are archives.
    let Location::Local(path) = &args.plan_or_archive else {
        return Ok(None);
    };
    if args.plan_or_archive.is_folder_name() {
        return Ok(None);
    }
    if path.is_dir() {
        return Err(folder_given(path));
    }
    no_dash(path)?;
    let input = InputFile::open(path).await?;
    match input.head().trim_ascii_start() {
        [b'{', ..] => {}
        [b'P', b'K', ..] => return Ok(None),
        head if head.starts_with(ENCRYPTED_MAGIC) => return Ok(None),
        _ if args.choices.target.is_some() => return Ok(None),
        _ => {
            let why = "is neither a plan (JSON) nor an archive (zip)";
            return Err(Failure::usage(format!("{} {why}", path.display()))
                .hint("pass a plan of `kindpack plan -o`, or an archive and --target"));
        }
    }
    if args.choices.any() {
        let why = "is a plan, which already contains its target and options";
        return Err(Failure::usage(format!("{} {why}", path.display())).hint(
            "make a new plan for other options: `kindpack plan ARCHIVE --target TARGET -o PLAN`",
        ));
    }
    let place = input.has_own_name().then(|| path.clone());
    Ok(Some((parse_plan(input).await?, place)))
}

/// Refuses the name that other programs give to standard input.
fn no_dash(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(Failure::usage("- would be a file named -")
            .hint("write /dev/stdin to read a plan from standard input, or ./- for that file"));
    }
    Ok(())
}

fn folder_given(path: &Path) -> Failure {
    let path = path.display();
    Failure::usage(format!("{path} is a folder, not a plan or an archive")).hint(format!(
        "write {path}/ for the newest archive in that folder, or run `kindpack pack` first if it holds exports"
    ))
}

/// A plan that was found where an archive might have been.
pub struct FoundPlan {
    pub plan: Plan,
    /// Its path, where a journal may stand beside it.
    pub place: Option<PathBuf>,
}

/// The plan that an argument means; none where it means an archive.
pub async fn find_plan(location: &Location) -> Result<Option<FoundPlan>, Failure> {
    let Location::Local(path) = location else {
        return Ok(None);
    };
    // What is said of a file that is missing is said of the archive.
    if location.is_folder_name() || path.is_dir() || !path.exists() {
        return Ok(None);
    }
    no_dash(path)?;
    let input = InputFile::open(path).await?;
    if !matches!(input.head().trim_ascii_start(), [b'{', ..]) {
        return Ok(None);
    }
    let place = input.has_own_name().then(|| path.clone());
    let plan = parse_plan(input).await?;
    Ok(Some(FoundPlan { plan, place }))
}

/// Reads a plan; also where a journal may stand beside it.
pub async fn load_plan(path: &Path) -> Result<(Plan, Option<PathBuf>), Failure> {
    no_dash(path)?;
    let input = InputFile::open(path).await?;
    let place = input.has_own_name().then(|| path.to_owned());
    Ok((parse_plan(input).await?, place))
}

/// Reads the journal of a plan. That of another plan counts as none when its restore has finished.
pub async fn load_journal(context: &Context, plan: &Plan, path: &Path) -> Result<Journal, Failure> {
    let name = path.display().to_string();
    let path = path.to_owned();
    let journal = Workers::run_blocking(move || JournalFile::read(&path)).await??;
    if journal.is_of_other_plan(plan.sha256()) && journal.finished.is_some() {
        context.ui.warn(format!(
            "{name} is the journal of another plan, which has finished; this plan has not begun"
        ));
        return Ok(Journal::default());
    }
    check_journal(&journal, plan).map_err(|source| {
        Failure::from(JournalFileError::Content { path: name, source })
            .hint("name the journal of this plan with --journal FILE")
    })?;
    Ok(journal)
}

async fn parse_plan(input: InputFile) -> Result<Plan, Failure> {
    if !matches!(input.head().trim_ascii_start(), [b'{', ..]) {
        return Err(not_a_plan(&input));
    }
    let path = input.path().display().to_string();
    let bytes = input.read(MAX_PLAN_BYTES).await?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::refused(format!("{path}: the plan is not UTF-8")))?;
    Plan::parse(&text).map_err(|error| Failure::from(error).about(&path))
}

/// The failure of a file that is no plan, with what to do where it is an archive.
fn not_a_plan(input: &InputFile) -> Failure {
    let path = input.path().display();
    if input.head().starts_with(b"PK") || input.head().starts_with(ENCRYPTED_MAGIC) {
        let quoted = shell_quote(&path.to_string());
        Failure::usage(format!("{path} is an archive, not a plan")).hint(format!(
            "make a plan of it: `kindpack plan {quoted} --target TARGET -o PLAN`"
        ))
    } else {
        Failure::usage(format!("{path} is not a plan"))
            .hint("name a plan that `kindpack plan -o` wrote")
    }
}

/// The archive of a plan, from where the plan says that it is.
pub async fn open_planned(context: &Context, plan: &Plan) -> Result<Arc<Archive>, Failure> {
    let location: Location = plan.head.archive.location.parse()?;
    let (store, name) = context.stores.object(&location).ok_or_else(|| {
        Failure::refused(format!(
            "the archive of the plan, {location}, is not a file"
        ))
    })?;
    let object = store.stat(&name).await.map_err(|error| {
        Failure::from(error).hint(
            "move the archive back to where it was, or make a new plan: `kindpack plan ARCHIVE --target TARGET -o PLAN`",
        )
    })?;
    let title = location.to_string();
    context.names.set("ARCHIVE", &title);
    let identities = context.identities.read().await?;
    let opened = open_object(store, object, identities).await;
    let (store, object) = opened.map_err(|error| with_title(error, &title))?;
    Archive::open(store, object, title)
        .await
        .map(Arc::new)
        .map_err(Failure::from)
}

/// Makes and shows the plan of a restore in one go.
async fn make_and_show(
    context: &Context,
    args: &RestoreArgs,
) -> Result<(Plan, Arc<Archive>), Failure> {
    let choices = choices(args.choices.clone()).await?;
    let ArchiveLocation {
        store,
        object,
        title,
    } = find_at(context, &args.plan_or_archive, args.namespace.as_deref()).await?;
    let archive = Arc::new(Archive::open(store, object, title).await?);
    let plan = make_plan(context, &archive, &choices).await?;
    show(context, &plan);
    Ok((plan, archive))
}

/// Makes a plan of an archive.
pub async fn make_plan(
    context: &Context,
    archive: &Arc<Archive>,
    choices: &Choices,
) -> Result<Plan, Failure> {
    let archive_ref = archive_ref(archive)
        .await
        .map_err(Failure::from_archive_store)?;
    make_plan_of(context, archive, &archive_ref, choices).await
}

/// As [`make_plan`], of an archive whose digest is known.
pub async fn make_plan_of(
    context: &Context,
    archive: &Arc<Archive>,
    archive_ref: &ArchiveRef,
    choices: &Choices,
) -> Result<Plan, Failure> {
    let environment = environment();
    note_other_emulator(context, &choices.target, &environment);
    let workers = &context.workers;
    Ok(prepare::make_plan(archive, archive_ref, choices, &environment, workers).await?)
}

/// Notes that the environment names another emulator than the target.
fn note_other_emulator(context: &Context, target: &TargetSpec, environment: &Environment) {
    if let (Some(host), Some(other)) = (target.emulator_host(), &environment.emulator_host)
        && host_and_port(other).as_deref() != Some(host)
    {
        let other = without_user(other);
        context.ui.note(format!(
            "DATASTORE_EMULATOR_HOST names {other:?}; the target's own address is used"
        ));
    }
}

/// A plan that the planner has just made: as an earlier run of the same restore has kept it, or as
/// it is now.
fn load_kept(
    context: &Context,
    args: &RestoreArgs,
    made: Plan,
    archive: Arc<Archive>,
) -> Result<LoadedPlan, Failure> {
    let archive_ref = made.head.archive.clone();
    let (path, keeper, plan) = find_kept(context, args, made)?;
    let is_new = keeper == PlanOrigin::New;
    Ok(LoadedPlan {
        checked: is_new.then(|| CheckedPlan::from_planner(plan.clone())),
        plan,
        archive,
        archive_ref,
        path,
        keeper,
    })
}

/// Where kindpack keeps a plan, and what an earlier run of the same restore has kept there.
fn find_kept(
    context: &Context,
    args: &RestoreArgs,
    plan: Plan,
) -> Result<(PathBuf, PlanOrigin, Plan), Failure> {
    let folder = if args.dry_run {
        context.state.find()
    } else {
        context.state.open(&context.ui)?
    };
    let path = kept_plans::path_of(&folder, &plan);
    Ok(match kept_plans::read(&path, &plan) {
        Some(kept) => (path, PlanOrigin::Earlier, kept),
        None => (path, PlanOrigin::New, plan),
    })
}
