//! The arguments: names and forms are fixed by the contract in `docs/cli.md`, wording is free.

use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::model::{Sample, Selector};
use crate::plan::{DependencyRule, NamespaceMap, OnExisting, TargetSpec, Via};
use crate::store::{CloudOptions, Location};
use crate::targets::RETRY_TIMEOUT;

/// Packs the per-kind exports of Datastore into one checksummed zip, and restores them kind by
/// kind.
#[derive(Debug, Parser)]
#[command(
    name = "kindpack",
    version,
    propagate_version = true,
    max_term_width = 120
)]
#[command(
    after_help = "Exit codes: 0 done, 1 own fault, 2 wrong command line, 3 set incomplete, 4 damaged, 5 refused, 6 service failed, 7 partly done \
                        (the same command goes on), 130/143 interrupted.\nBegin with `kindpack demo`."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "For every command")]
pub struct Global {
    /// Print machine-readable JSON: one event a line (`list`: the manifest)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more about what is done (repeatable)
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// How many things to do at once (default: the cores)
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Ceiling of the buffers
    #[arg(long, global = true, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub memory: u64,
    /// Draw no progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// The project that pays for requests to buckets whose requester pays
    #[arg(long, global = true, value_name = "PROJECT")]
    pub billing_project: Option<String>,
    /// How long a call to Cloud Storage or Datastore is tried while nothing comes through [default:
    /// 5m, an emulator 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub retry_timeout: Option<Duration>,
    /// How long a call to Cloud Storage or Datastore may be silent before it is tried again
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub idle_timeout: Duration,
}

impl Cli {
    /// How Cloud Storage is used by this command.
    pub fn cloud_options(&self) -> CloudOptions {
        let mut options = CloudOptions {
            billing_project: self.global.billing_project.clone(),
            retry_timeout: self.global.retry_timeout.unwrap_or(RETRY_TIMEOUT),
            idle_timeout: self.global.idle_timeout,
            ..CloudOptions::default()
        };
        if let Command::Pack(pack) = &self.command {
            options.storage_class = pack.storage_class.clone();
            options.kms_key = pack.kms_key.clone();
            options.keep_parts = pack.keep_parts;
            options.upload_cutoff_bytes = pack.upload_cutoff;
            options.upload_chunk_bytes =
                usize::try_from(pack.upload_chunk_size).unwrap_or(usize::MAX);
        }
        options
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole way on a bundled backup, with nothing installed
    Demo,
    /// Export each kind, then pack (not in this version)
    #[command(hide = true)]
    Backup {
        /// What to back up
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Gather the finished per-kind exports below SOURCE into one zip
    Pack(PackArgs),
    /// Show what an archive holds
    List {
        #[command(flatten)]
        archive: ArchiveArg,
    },
    /// Show which archives lie in a folder
    Archives {
        /// The folder, gs://BUCKET/NAME or a local path
        location: Location,
        /// Only archives of this namespace (`(default)` for the default one)
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Read every byte of an archive and say all that is wrong
    Verify(VerifyArgs),
    /// Print entities, one REST JSON a line
    Cat {
        #[command(flatten)]
        archive: ArchiveArg,
        /// KIND (in every namespace) or NAMESPACE/KIND; `*` and `?` match
        selector: Selector,
    },
    /// Lay the entries down as objects again
    Extract(ExtractArgs),
    /// Make the ordered restore plan
    Plan(PlanArgs),
    /// Run a plan, or make and run one in one go
    Restore(RestoreArgs),
    /// Restore into a private emulator that is started for it, and compare every entity
    Rehearse(RehearseArgs),
    /// Show where a restore stands
    Status {
        /// The plan that `kindpack plan -o` wrote
        plan: PathBuf,
        /// Exit with 7 while anything is left to do
        #[arg(long)]
        require_complete: bool,
        /// Where the journal is (default: PLAN.journal)
        #[arg(long, value_name = "DEST")]
        journal: Option<PathBuf>,
    },
    /// Print a completion script
    Completions { shell: Shell },
    /// Write manual pages into a folder
    Man {
        /// The folder; made when needed
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ArchiveArg {
    /// The archive; ending in `/`, the newest one in that folder
    pub archive: Location,
    /// With ARCHIVE ending in `/`: only archives of this namespace (`(default)` for the default
    /// one)
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

#[derive(Debug, Args)]
pub struct PackArgs {
    /// The folder that the exports lie below, at any depth
    pub source: Location,
    /// The archive to make; ending in `/`, its name is chosen
    pub archive: Location,
    /// A list of selectors, one a line: each must be there and finished
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Wait that long for what is unfinished or missing, such as 2h or 90s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration, hide_default_value = true)]
    pub wait: Duration,
    /// Pack only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// Do not pack these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub exclude: Vec<Selector>,
    /// Of two exports of one kind and namespace, take the newest
    #[arg(long)]
    pub latest: bool,
    /// How far apart the exports may have started: with --latest an older one is refused, else
    /// there is a warning
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub max_spread: Duration,
    /// Pack these kinds even if their files hold more or fewer entities than the export's metadata
    /// count (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub accept_count: Vec<Selector>,
    /// How entries are kept
    #[arg(long, value_enum, default_value = "deflate")]
    pub method: MethodArg,
    /// Deflate level: 1 is fast, 9 is small
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub level: u32,
    /// Replace an archive of that name
    #[arg(long)]
    pub overwrite: bool,
    /// Judge the set by its metadata, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Read the data of an incomplete set in a bucket all the same, to report every fault
    #[arg(long, conflicts_with = "dry_run")]
    pub all_faults: bool,
    /// The storage class of an archive in a bucket (default: the bucket's own)
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
    /// The Cloud KMS key that an archive in a bucket is encrypted with (default: the bucket's own)
    #[arg(long, value_name = "KEY")]
    pub kms_key: Option<String>,
    /// Leave the parts of an archive in a bucket there when it is finished
    #[arg(long)]
    pub keep_parts: bool,
    /// Archives in a bucket that may grow longer than this go up in parts
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub upload_cutoff: u64,
    /// How long such a part is; five of them are in memory at once
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    pub upload_chunk_size: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MethodArg {
    Deflate,
    Store,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Structure and manifest only; no entry is read
    #[arg(long)]
    pub quick: bool,
    /// Read only the entries of these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR", conflicts_with = "quick")]
    pub only: Vec<Selector>,
    /// Structure and checksums of a zip that kindpack did not make
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    pub any_zip: bool,
}

#[derive(Debug, Args)]
pub struct ExtractArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// The folder to write into; nothing there is overwritten
    pub dest: Location,
    /// Only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// `original`: the objects as they were; `managed`: legacy backups become exports that Google's
    /// import accepts
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "original")]
    pub format: FormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum FormatArg {
    Original,
    Managed,
}

/// What shapes a plan; the same for `plan` and for `restore ARCHIVE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PlanChoices {
    /// emulator:PROJECT[@HOST:PORT], datastore:PROJECT[/DATABASE], dir:PATH or ndjson:PATH
    #[arg(long)]
    pub target: Option<TargetSpec>,
    /// Restore only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// Do not restore these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub exclude: Vec<Selector>,
    /// With --only or a sample: restore the parents of what is chosen too, and what it refers to
    #[arg(long)]
    pub with_dependencies: bool,
    /// Restore these before all others (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub first: Vec<Selector>,
    /// Restore these after all others (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub last: Vec<Selector>,
    /// A=B restores A once B is done (repeatable)
    #[arg(long, value_name = "A=B")]
    pub depends_on: Vec<DependencyRule>,
    /// A TOML file with lists `first`, `last` and `after`, which join those of the command line
    #[arg(long, value_name = "FILE")]
    pub order_file: Option<PathBuf>,
    /// FROM=TO moves entities of one namespace, and references to them, to another (repeatable)
    #[arg(long, value_name = "FROM=TO")]
    pub map_namespace: Vec<NamespaceMap>,
    /// `empty` (default) refuses kinds that hold entities, `merge` overwrites the same keys and
    /// leaves others, `replace` deletes others
    #[arg(long, value_name = "HOW")]
    pub on_existing: Option<OnExisting>,
    /// How entities get into the target: `commit` (default), or `import`, the target's own
    #[arg(long, value_name = "HOW")]
    pub via: Option<Via>,
    /// With --via import: where exports are laid down meanwhile, gs://BUCKET/NAME for datastore:, a
    /// folder for emulator:
    #[arg(long, value_name = "DEST")]
    pub staging: Option<String>,
    /// KIND.property=drop|null|hash|mask|fake, `*` in both places, `?` before it if it may match
    /// nothing; or @FILE with a rule a line (repeatable)
    #[arg(long, value_name = "RULE")]
    pub redact: Vec<String>,
    /// Restore a share of each kind's entities, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "limit")]
    pub sample: Option<Sample>,
    /// Restore at most N entities of each kind; with --only and --with-dependencies, of each chosen
    /// kind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Run a command before each step, through `sh -c`
    #[arg(long, value_name = "CMD")]
    pub before_step: Option<String>,
    /// Run a command behind each step
    #[arg(long, value_name = "CMD")]
    pub after_step: Option<String>,
    /// Run a command when all steps are done
    #[arg(long, value_name = "CMD")]
    pub after_all: Option<String>,
    /// Declare that the archive's source project itself is to be overwritten
    #[arg(long)]
    pub disaster_recovery: bool,
    /// Take choices from [profile.NAME] of the configuration; what is given here beats them
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The configuration that holds the profile (default: kindpack.toml)
    #[arg(long, value_name = "FILE", requires = "profile")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Write the plan as JSON to this file
    #[arg(short, long, value_name = "PLAN")]
    pub output: Option<PathBuf>,
    /// Exit with 8 when there are steps to run, 0 when there are none
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Tell why these kinds stand where they stand, instead of showing the plan
    #[arg(long, value_name = "SELECTOR")]
    pub explain: Option<Selector>,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A plan that `kindpack plan -o` wrote; or an archive, together with --target
    pub plan_or_archive: Location,
    /// With ARCHIVE ending in `/`: only archives of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Read and encode everything, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The project of the target once more; needed for `datastore:`
    #[arg(long, value_name = "PROJECT")]
    pub confirm: Option<String>,
    /// Run that many kinds side by side, as far as they do not wait for one another
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    pub parallel: NonZeroU8,
    /// Go on with the next kind when one fails
    #[arg(long)]
    pub keep_going: bool,
    /// Run only what has failed before
    #[arg(long)]
    pub retry_failed: bool,
    /// Restore from the beginning, whatever an earlier run has done
    #[arg(long, conflicts_with = "retry_failed")]
    pub again: bool,
    /// Stop after that many steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,
    /// What is asked of the target after each step
    #[arg(long, value_enum, default_value = "counts")]
    pub check: CheckArg,
    /// How long a command of the plan's (--before-step, --after-step, --after-all) may take
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub hook_timeout: Duration,
    /// Write what became of each kind to a file, also when it fails: JUnit XML for names that end
    /// in .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Where the journal is kept
    #[arg(long, value_name = "DEST")]
    pub journal: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RehearseArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Run that many kinds side by side, as far as they do not wait for one another
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    pub parallel: NonZeroU8,
    /// Write what became of each kind to a file, also when it fails: JUnit XML for names that end
    /// in .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum CheckArg {
    /// Nothing
    None,
    /// How many entities of the kind it holds
    Counts,
    /// Every entity
    Entities,
}

impl PlanChoices {
    /// Whether any choice was made that a finished plan has already made.
    pub fn any(&self) -> bool {
        *self != PlanChoices::default()
    }
}

/// `5%`: what has no percent sign is a limit, which has an option of its own.
fn share(text: &str) -> Result<Sample, String> {
    match text.parse() {
        Ok(share @ Sample::Share(_)) => Ok(share),
        Ok(Sample::Limit(_)) => {
            Err("expected a share such as 5%, found a number; --limit takes one".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// No duration may be longer: whatever it is added to, the sum is a time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `2h`, `90s`, `1h 30m`, `3d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a duration such as 90s, 2h or 3d, found {text:?}");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let signed = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    let duration = Duration::try_from(signed)
        .map_err(|_| format!("expected a duration that is not negative, found {text:?}"))?;
    if duration > LONGEST {
        Err(format!(
            "expected a duration of at most 366 days, found {text:?}"
        ))
    } else {
        Ok(duration)
    }
}

/// `256MiB`, `1G`, `1048576`: powers of two, as memory is counted.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as 64MiB or 1GiB, found {text:?}");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0);
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_durations_read_what_people_write() {
        assert_eq!(
            (size("256MiB"), size("1g"), size("4096")),
            (Ok(256 << 20), Ok(1 << 30), Ok(4096))
        );
        assert!(
            size("").is_err()
                && size("12 parsecs").is_err()
                && size("99999999999T").is_err()
                && size("0").is_err()
        );
        assert_eq!(
            (duration("2h"), duration("90s")),
            (Ok(Duration::from_secs(7200)), Ok(Duration::from_secs(90)))
        );
        assert_eq!(
            (duration("1h 30m"), duration("2d"), duration("366d")),
            (
                Ok(Duration::from_secs(5400)),
                Ok(Duration::from_secs(172_800)),
                Ok(LONGEST)
            )
        );
        assert!(duration("soon").is_err() && duration("-5s").is_err());
    }

    #[test]
    fn durations_that_no_clock_can_add_are_refused() {
        for text in [
            "9223372036854775807s",
            "99999999999999999999s",
            "8784h 1s",
            "367d",
            "1y",
            "2mo",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
