//! The plan that `restore` is to run: read from a file, or made in one go and kept.
//!
//! Knows files and archives. What is done with the plan is `restore`'s affair.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy as _;
use serde_json::json;
use sha2::Digest as _;

use super::archive::{Found, absolute, find_at, local};
use super::choices::choices;
use super::pack::shell;
use super::plan::make;
use super::plan_table::show;
use crate::cli::Context;
use crate::cli::args::RestoreArgs;
use crate::cli::failure::{Code, Failure};
use kindpack::archive_file::ArchiveFile;
use kindpack::model::Sha256;
use kindpack::plan::Plan;
use kindpack::store::{DirStore, Location, write_whole};

const WHAT: &str = super::restore::WHAT;

/// Plans longer than this are refused: they are held in memory.
const PLAN_MAX_BYTES: u64 = 1 << 30;

/// A plan that is to be run.
pub struct Planned {
    pub plan: Plan,
    pub archive: Arc<ArchiveFile>,
    /// Where the plan is kept.
    pub path: PathBuf,
    /// Whether it was made just now, or by the same command before.
    pub one_go: bool,
}

/// The plan that the arguments mean.
pub async fn planned(context: &Context, args: &RestoreArgs) -> Result<Planned, Failure> {
    match read_plan(args)? {
        Some(plan) => {
            let path = local(WHAT, &args.plan_or_archive)?.to_owned();
            let archive = open_planned(context, &plan).await?;
            Ok(Planned { plan, archive, path, one_go: false })
        }
        None => {
            let (plan, archive, path) = one_go(context, args).await?;
            Ok(Planned { plan, archive, path, one_go: true })
        }
    }
}

/// Where the journal of a plan is kept.
pub fn journal_of(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

/// The plan that the argument is, or `None` where it is an archive.
fn read_plan(args: &RestoreArgs) -> Result<Option<Plan>, Failure> {
    // Plans are files of this machine; in a bucket lie archives.
    let Location::Local(path) = &args.plan_or_archive else { return Ok(None) };
    if args.plan_or_archive.is_folder_name() {
        return Ok(None);
    }
    match Kind::of(path)? {
        Kind::Plan => {}
        Kind::Unknown if args.choices.target.is_none() => {
            let why = format!("{}: expected a plan (JSON) or an archive (zip), found neither", path.display());
            return Err(Failure::usage(WHAT, why));
        }
        Kind::Archive | Kind::Unknown => return Ok(None),
    }
    if args.choices.any() {
        let why = format!("{}: expected the plan alone, found choices beside it that only a new plan can take", path.display());
        return Err(Failure::usage(WHAT, why).hint("kindpack plan ARCHIVE --target TARGET … -o PLAN"));
    }
    load_plan(WHAT, path).map(Some)
}

/// Reads a plan.
pub fn load_plan(what: &str, path: &Path) -> Result<Plan, Failure> {
    let failed = |error| Failure::io(what, path.display(), &error);
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > PLAN_MAX_BYTES {
        return Err(Failure::new(Code::Refused, what, format!("{}: expected a plan, found {len} bytes", path.display())));
    }
    let text = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::new(Code::Refused, what, format!("{}: expected a plan in UTF-8, found other bytes", path.display())))?;
    Plan::parse(&text).map_err(|error| Failure::plan(what, &error))
}

/// What an argument is, by its first bytes.
enum Kind {
    Plan,
    Archive,
    Unknown,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Failure> {
        let mut begin = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut begin));
        read.map_err(|error| match error.kind() {
            ErrorKind::IsADirectory => Failure::usage(WHAT, format!("{}: expected a plan or an archive, found a folder", path.display()))
                .hint(format!("{}/ means the newest archive in that folder", path.display())),
            _ => Failure::io(WHAT, path.display(), &error),
        })?;
        Ok(match begin.trim_ascii_start() {
            [b'{', ..] => Kind::Plan,
            [b'P', b'K', ..] => Kind::Archive,
            _ => Kind::Unknown,
        })
    }
}

/// The archive of a plan, from where the plan says that it is.
async fn open_planned(context: &Context, plan: &Plan) -> Result<Arc<ArchiveFile>, Failure> {
    let location: Location = plan.archive.location.parse().map_err(|error| Failure::location(WHAT, &error))?;
    let (store, name) = context
        .stores
        .object(&location)
        .ok_or_else(|| Failure::new(Code::Refused, WHAT, format!("plan: expected the archive's location, found {location}")))?;
    let object =
        store.stat(&name).await.map_err(|error| Failure::store(WHAT, &error).hint("the plan names its archive by where it was then"))?;
    ArchiveFile::open(store, object, location.to_string()).await.map(Arc::new).map_err(|error| Failure::archive(WHAT, &error))
}

/// Makes, keeps and shows the plan of a restore in one go. Gives where it is kept.
async fn one_go(context: &Context, args: &RestoreArgs) -> Result<(Plan, Arc<ArchiveFile>, PathBuf), Failure> {
    let choices = choices(WHAT, args.choices.clone())?;
    let Found { store, object, title } = find_at(context, WHAT, &args.plan_or_archive, args.namespace.as_deref()).await?;
    let archive = ArchiveFile::open(store, object, title).await.map(Arc::new).map_err(|error| Failure::archive(WHAT, &error))?;
    let plan = make(context, WHAT, &archive, &choices).await?;
    show(context, &plan);
    let folder = state_folder()?;
    let key = key_of(&plan);
    let kept = folder.join(format!("{key}.json"));
    // A plan that is kept already goes on as it is: its journal names it, wherever the archive lies now and whichever version made it.
    if let Some(plan) = load_plan(WHAT, &kept).ok().filter(|plan| key_of(plan) == key) {
        context.ui.remark(format!("plan and journal are kept as {}", shell(&kept.display().to_string())));
        context
            .ui
            .json_event(&json!({"event": "kept", "plan": kept.display().to_string(), "journal": journal_of(&kept).display().to_string()}));
        return Ok((plan, archive, kept));
    }
    if !args.dry_run {
        let name = kept.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let written = write_whole(&DirStore::new(&folder), &name, plan.to_json().into_bytes().into(), true).await;
        written.map_err(|error| Failure::store(WHAT, &error))?;
        context.ui.remark(format!("plan and journal are kept as {}", shell(&kept.display().to_string())));
        context
            .ui
            .json_event(&json!({"event": "kept", "plan": kept.display().to_string(), "journal": journal_of(&kept).display().to_string()}));
    }
    Ok((plan, archive, kept))
}

/// Where plans and journals of restores in one go are kept.
pub fn state_folder() -> Result<PathBuf, Failure> {
    let xdg = etcetera::base_strategy::Xdg::new()
        .map_err(|error| Failure::usage(WHAT, format!("state folder: expected a home folder, found {error}")))?;
    let state = xdg.state_dir().unwrap_or_else(|| xdg.data_dir());
    Ok(absolute(&state.join("kindpack")))
}

/// A name for archive, target and choices together: all that the plan says besides where the archive lies and who made the plan.
fn key_of(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.archive.location.clear();
    plan.archive.generation = None;
    plan.tool.clear();
    plan.seal = Sha256([0; 32]);
    let digest = Sha256(sha2::Sha256::digest(plan.to_json()).into()).to_string();
    digest.chars().take(32).collect()
}
