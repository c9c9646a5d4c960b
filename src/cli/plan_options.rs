//! The choices of a restore, from the command line, a profile and the files that they name.
//!
//! Reads files and the environment; whether the choices fit an archive is the planner's to say.

use std::path::{Path, PathBuf};

use super::open_archive::absolute;
use crate::cli::args::PlanChoices;
use crate::cli::failure::{Failure, KEY_HINT};
use crate::cli::input_file::read_input_file;
use crate::config::Config;
use crate::model::{Sample, TargetSpec};
use crate::plan::profile::{self, Profile};
use crate::plan::{Choices, Environment, Hooks, NamespaceMap, OrderFile, PlanSelection, Redaction};
use crate::store::is_bucket_address;
use crate::transform::redact::{RedactKey, RedactRule, RuleError};

/// The configuration that is read where none is named.
const CONFIG: &str = "kindpack.toml";

/// The variable with the secret that hashes and made-up values depend on.
const REDACT_KEY: &str = "KINDPACK_REDACT_KEY";

/// What else `gcloud beta emulators datastore env-init` sets: a sign that an emulator is meant, be
/// the main variable lost.
const HALF_SET: [&str; 2] = ["DATASTORE_EMULATOR_HOST_PATH", "DATASTORE_HOST"];

/// Files of choices longer than this are none.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The choices of the arguments, and of the profile that they name, as the planner takes them.
///
/// What is typed beats the profile; a list that is typed takes the place of the profile's list of
/// that name. Only redactions add up, so that one more rule brings nothing back that the profile
/// takes away; of several rules for one property the last counts, which is the typed one.
pub async fn choices(args: PlanChoices) -> Result<Choices, Failure> {
    let profile = profile_of(&args).await?;
    let profile_lists = profile_lists(&args);
    let target = with_absolute_path(target_of(args.target, profile.target)?)?;
    let staging = args.staging.or(profile.staging).map(absolute_staging);
    let maps = typed_or(args.map_namespace, profile.map_namespaces);
    let order_file = read_order(args.order_file.or(profile.order_file)).await?;
    let rules = all_rules(profile.redact, profile.redact_file.as_deref(), &args.redact).await?;
    let key = key_for(&rules)?;
    let typed_sample = args.sample.or(args.limit.map(Sample::Limit));
    Ok(Choices {
        via: args.via.or(profile.via).unwrap_or_default(),
        on_existing: args.on_existing.or(profile.on_existing).unwrap_or_default(),
        map_namespaces: NamespaceMap::join(maps)
            .map_err(|error| Failure::usage(error.to_string()))?,
        selection: PlanSelection {
            only: typed_or(args.only, profile.only),
            exclude: typed_or(args.exclude, profile.exclude),
            first: typed_or(args.first, profile.first),
            last: typed_or(args.last, profile.last),
            depends_on: typed_or(args.depends_on, profile.depends_on),
            order_file,
            with_dependencies: args.with_dependencies || profile.with_dependencies,
            profile: args.profile,
            profile_lists,
            disaster_recovery: args.disaster_recovery,
        },
        staging,
        redaction: Redaction {
            rules,
            key_id: key.as_ref().map(RedactKey::id),
            key_is_short: key.is_some_and(|key| key.is_short()),
            matches: Vec::new(),
        },
        sample: typed_sample.or(profile.sample),
        hooks: Hooks {
            before_step: args.before_step.or(profile.hooks.before_step),
            after_step: args.after_step.or(profile.hooks.after_step),
            after_all: args.after_all.or(profile.hooks.after_all),
        },
        target,
    })
}

/// The lists of selectors that are not typed, and so are those of the profile.
fn profile_lists(args: &PlanChoices) -> Vec<&'static str> {
    let lists = [
        ("only", args.only.is_empty()),
        ("exclude", args.exclude.is_empty()),
        ("first", args.first.is_empty()),
        ("last", args.last.is_empty()),
        ("depends_on", args.depends_on.is_empty()),
    ];
    let lists = lists.into_iter().filter(|(_, is_empty)| *is_empty);
    lists.map(|(name, _)| name).collect()
}

/// The profile that the arguments name; an empty one where they name none.
async fn profile_of(args: &PlanChoices) -> Result<Profile, Failure> {
    let Some(name) = &args.profile else {
        return Ok(Profile::default());
    };
    match &args.config {
        Some(config) => read_profile(config, name).await,
        None if Path::new(CONFIG).exists() => read_profile(Path::new(CONFIG), name).await,
        None => Err(no_config(name)),
    }
}

/// The failure of a profile without the file that holds it.
fn no_config(profile: &str) -> Failure {
    let folder = absolute(Path::new(CONFIG));
    let folder = folder.parent().unwrap_or(&folder).display();
    let why = format!("--profile {profile}: there is no {CONFIG} in {folder}");
    Failure::usage(why).hint("name another file with --config FILE")
}

fn target_of(
    typed: Option<TargetSpec>,
    of_profile: Option<TargetSpec>,
) -> Result<TargetSpec, Failure> {
    typed.or(of_profile).ok_or_else(|| {
        let forms = TargetSpec::FORMS;
        let hint = format!("pass --target {forms}, or set target in a profile of kindpack.toml");
        Failure::usage("there is no target").hint(hint)
    })
}

/// A place for exports that means the same wherever the plan is read.
fn absolute_staging(staging: String) -> String {
    if is_bucket_address(&staging) {
        return staging;
    }
    absolute(staging.as_ref()).display().to_string()
}

pub async fn read_order(path: Option<PathBuf>) -> Result<Option<OrderFile>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let order = profile::order(&read(&path).await?, &named(&path))?;
    Ok(Some(order))
}

/// The key that the rules need.
fn key_for(rules: &[RedactRule]) -> Result<Option<RedactKey>, Failure> {
    if rules.iter().any(RedactRule::needs_key) {
        return redact_key();
    }
    Ok(None)
}

/// A target whose path means the same wherever the plan is read.
fn with_absolute_path(target: TargetSpec) -> Result<TargetSpec, Failure> {
    match target.path() {
        Some(path) if is_bucket_address(path) => Err(Failure::local_only(path)),
        Some(path) if Path::new(path).is_file() => Err(Failure::usage(format!(
            "target {target}: {path} is a file, not a folder"
        ))
        .hint("name a new folder")),
        Some(path) => {
            let path = absolute(path.as_ref()).display().to_string();
            Ok(target.with_path(path))
        }
        None => Ok(target),
    }
}

/// The rules of the profile, then those of its file, then the typed ones.
pub async fn all_rules(
    mut rules: Vec<RedactRule>,
    file: Option<&Path>,
    typed: &[String],
) -> Result<Vec<RedactRule>, Failure> {
    if let Some(path) = file {
        rules.extend(profile::rules(&read(path).await?, &named(path))?);
    }
    for given in typed {
        rules.extend(typed_rules(given).await?);
    }
    Ok(rules)
}

/// What the planner is told of the world.
pub fn environment() -> Environment {
    let value =
        |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    Environment {
        emulator_host: value("DATASTORE_EMULATOR_HOST"),
        half_set: HALF_SET
            .iter()
            .find_map(|name| Some(((*name).to_owned(), value(name)?))),
    }
}

/// The key of the user's secret; none where no secret is set.
pub fn redact_key() -> Result<Option<RedactKey>, Failure> {
    match std::env::var_os(REDACT_KEY) {
        None => Ok(None),
        Some(secret) if secret.is_empty() => {
            Err(Failure::usage(format!("{REDACT_KEY} is empty")).hint(KEY_HINT))
        }
        Some(secret) => Ok(Some(RedactKey::from_secret(secret.as_encoded_bytes()))),
    }
}

fn typed_or<T>(typed: Vec<T>, of_profile: Vec<T>) -> Vec<T> {
    if typed.is_empty() { of_profile } else { typed }
}

/// The rules of one `--redact`: a rule, `@FILE`, or a file's name where it can be nothing else.
async fn typed_rules(given: &str) -> Result<Vec<RedactRule>, Failure> {
    let path = match given.strip_prefix('@') {
        Some(path) => Some(path),
        None => (!given.contains('=')
            && Path::new(given)
                .metadata()
                .is_ok_and(|metadata| !metadata.is_dir()))
        .then_some(given),
    };
    match path {
        Some(path) => profile::rules(&read(path.as_ref()).await?, path).map_err(Failure::from),
        None => Ok(vec![typed_rule(given)?]),
    }
}

fn typed_rule(given: &str) -> Result<RedactRule, Failure> {
    given.parse().map_err(|error: RuleError| {
        let failure = Failure::usage(error.to_string());
        if given.contains('=') {
            failure
        } else {
            failure.hint("write --redact @FILE to read rules from a file")
        }
    })
}

async fn read_profile(path: &Path, name: &str) -> Result<Profile, Failure> {
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let mut config = Config::read(&read(path).await?, &named(path), &folder)?;
    Ok(config.take_profile(name)?)
}

async fn read(path: &Path) -> Result<String, Failure> {
    read_input_file(path, MAX_FILE_BYTES).await
}

fn named(path: &Path) -> String {
    path.display().to_string()
}
