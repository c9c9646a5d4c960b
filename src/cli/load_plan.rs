//! The plan that `restore` is to run: read from a file, or made in one go and kept.
//!
//! Knows files and archives. What is done with the plan is `restore`'s affair.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commands::archive::{Found, find_at};
use super::commands::plan::{make, reference};
use super::plan_options::choices;
use super::plan_view::show;
use crate::archive::ArchiveFile;
use crate::cli::Context;
use crate::cli::args::RestoreArgs;
use crate::cli::failure::{Code, Failure};
use crate::cli::input_file::InputFile;
use crate::cli::kept_plans;
use crate::plan::{ArchiveRef, Plan};
use crate::restore::journal::file::JournalFile;
use crate::runtime::workers::Workers;
use crate::store::Location;

const WHAT: &str = super::commands::restore::WHAT;

/// Plans longer than this are refused: they are held in memory. One of a million kinds fits.
pub const MAX_PLAN_BYTES: u64 = 1 << 30;

/// A plan that is to be run.
pub struct Planned {
    pub plan: Plan,
    pub archive: Arc<ArchiveFile>,
    /// The archive as it is now.
    pub archive_ref: ArchiveRef,
    /// Where the plan is, or will be kept.
    pub path: PathBuf,
    pub keeper: Keeper,
}

/// Who keeps a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The user, in a file.
    User,
    /// kindpack, since an earlier run of the same restore.
    Earlier,
    /// kindpack, from this run on.
    New,
}

/// The plan that the arguments mean.
pub async fn planned(context: &Context, args: &RestoreArgs) -> Result<Planned, Failure> {
    match read_plan(args).await? {
        Some((plan, place)) => {
            let archive = open_planned(context, &plan).await?;
            let archive_ref = reference(WHAT, &archive).await?;
            match place {
                Some(path) => Ok(Planned {
                    plan,
                    archive,
                    archive_ref,
                    path,
                    keeper: Keeper::User,
                }),
                None => kept(context, args, plan, archive, archive_ref),
            }
        }
        None => {
            let (plan, archive) = one_go(context, args).await?;
            let archive_ref = plan.archive.clone();
            kept(context, args, plan, archive, archive_ref)
        }
    }
}

impl Planned {
    /// Keeps the plan, unless the user does. Old ones go.
    pub async fn keep(&self) -> Result<(), Failure> {
        if self.keeper == Keeper::User {
            return Ok(());
        }
        if self.keeper == Keeper::New {
            kept_plans::write(&self.path, &self.plan)
                .await
                .map_err(|error| Failure::store(WHAT, &error))?;
        }
        let (path, folder) = (
            self.path.clone(),
            self.path.parent().unwrap_or(Path::new(".")).to_owned(),
        );
        Workers::aside(move || kept_plans::remove_old(&folder, &path))
            .await
            .map_err(|error| Failure::worker(WHAT, &error))
    }

    /// Takes away what this run has kept, where nothing was begun. `journal` is still locked.
    pub fn discard_unused(&self, journal: &JournalFile) {
        if journal.journal().opened.is_none() {
            if self.keeper == Keeper::New {
                fs::remove_file(&self.path).ok();
            }
            journal.remove_if_empty();
        }
    }
}

/// Where the journal of a plan is kept.
pub fn journal_of(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
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
        return Err(Failure::usage(
            WHAT,
            format!(
                "{}: expected a plan or an archive, found a folder",
                path.display()
            ),
        )
        .hint(format!(
            "{}/ means the newest archive in that folder",
            path.display()
        )));
    }
    let input = InputFile::open(WHAT, path).await?;
    match input.head().trim_ascii_start() {
        [b'{', ..] => {}
        [b'P', b'K', ..] => return Ok(None),
        _ if args.choices.target.is_some() => return Ok(None),
        _ => {
            let why = format!(
                "{}: expected a plan (JSON) or an archive (zip), found neither",
                path.display()
            );
            return Err(Failure::usage(WHAT, why));
        }
    }
    if args.choices.any() {
        let why = format!(
            "{}: expected the plan alone, found choices beside it that only a new plan can take",
            path.display()
        );
        return Err(
            Failure::usage(WHAT, why).hint("kindpack plan ARCHIVE --target TARGET … -o PLAN")
        );
    }
    let place = input.has_own_name().then(|| path.clone());
    Ok(Some((parse_plan(WHAT, input).await?, place)))
}

/// Reads a plan; also where a journal may stand beside it.
pub async fn load_plan(what: &str, path: &Path) -> Result<(Plan, Option<PathBuf>), Failure> {
    let input = InputFile::open(what, path).await?;
    let place = input.has_own_name().then(|| path.to_owned());
    Ok((parse_plan(what, input).await?, place))
}

async fn parse_plan(what: &str, input: InputFile) -> Result<Plan, Failure> {
    if !matches!(input.head().trim_ascii_start(), [b'{', ..]) {
        return Err(Failure::new(
            Code::Refused,
            what,
            format!("{}: this is no plan", input.path().display()),
        ));
    }
    let path = input.path().display().to_string();
    let bytes = input.read(MAX_PLAN_BYTES).await?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(
            Code::Refused,
            what,
            format!("{path}: the plan is not UTF-8"),
        )
    })?;
    Plan::parse(&text).map_err(|error| Failure::plan(what, &error))
}

/// The archive of a plan, from where the plan says that it is.
async fn open_planned(context: &Context, plan: &Plan) -> Result<Arc<ArchiveFile>, Failure> {
    let location: Location = plan
        .archive
        .location
        .parse()
        .map_err(|error| Failure::location(WHAT, &error))?;
    let (store, name) = context.stores.object(&location).ok_or_else(|| {
        Failure::new(
            Code::Refused,
            WHAT,
            format!("plan: expected the archive's location, found {location}"),
        )
    })?;
    let object = store.stat(&name).await.map_err(|error| {
        Failure::store(WHAT, &error).hint("the plan names its archive by where it was then")
    })?;
    ArchiveFile::open(store, object, location.to_string())
        .await
        .map(Arc::new)
        .map_err(|error| Failure::archive(WHAT, &error))
}

/// Makes and shows the plan of a restore in one go.
async fn one_go(
    context: &Context,
    args: &RestoreArgs,
) -> Result<(Plan, Arc<ArchiveFile>), Failure> {
    let choices = choices(WHAT, args.choices.clone()).await?;
    let Found {
        store,
        object,
        title,
    } = find_at(
        context,
        WHAT,
        &args.plan_or_archive,
        args.namespace.as_deref(),
    )
    .await?;
    let archive = ArchiveFile::open(store, object, title)
        .await
        .map(Arc::new)
        .map_err(|error| Failure::archive(WHAT, &error))?;
    let plan = make(context, WHAT, &archive, &choices).await?;
    show(context, &plan);
    Ok((plan, archive))
}

/// A plan that kindpack keeps: as an earlier run of the same restore has kept it, or as it is now.
fn kept(
    context: &Context,
    args: &RestoreArgs,
    plan: Plan,
    archive: Arc<ArchiveFile>,
    archive_ref: ArchiveRef,
) -> Result<Planned, Failure> {
    let folder = if args.dry_run {
        context.state.find()
    } else {
        context.state.open(&context.ui, WHAT)?
    };
    let path = kept_plans::path_of(&folder, &plan);
    Ok(match kept_plans::read(&path, &plan) {
        Some(plan) => Planned {
            plan,
            archive,
            archive_ref,
            path,
            keeper: Keeper::Earlier,
        },
        None => Planned {
            plan,
            archive,
            archive_ref,
            path,
            keeper: Keeper::New,
        },
    })
}
