//! `kindpack verify ARCHIVE`.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::archive::signed::{SignedArchiveError, check_signature};
use crate::cli::args::VerifyArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, OTHER_COPY, UNZIP};
use crate::cli::keys::read_public_key;
use crate::cli::open_archive::{self, ArchiveLocation};
use crate::cli::output::{self, Ui};
use crate::cli::text::shell_quote;
use crate::model::{KindRef, Selector};
use crate::progress::Observer as _;
use crate::signature::{GoodSignature, PublicKey};
use crate::verify::{VerifyReport, VerifyScope, any_zip, verify};

/// How many damaged kinds a hint names.
const KINDS_NAMED: usize = 3;

pub async fn run(context: &Context, args: VerifyArgs) -> CommandResult {
    let trusted = match &args.trusted {
        Some(path) => Some(read_public_key(path).await?),
        None => None,
    };
    let location = open_archive::find(context, &args.archive).await?;
    let (title, bytes) = (location.title.clone(), location.object.len);
    let begun = Instant::now();
    let signature = match &trusted {
        Some(key) => Some(check_signature_of(context, &location, key).await?),
        None => None,
    };
    let report = read_all(context, &args, location).await?;
    context.ui.finish_phase();
    if !report.problems.is_empty() {
        return Err(damaged(report, &title));
    }
    let verified = Verified {
        title: &title,
        bytes,
        report,
        signature,
        seconds: begun.elapsed().as_secs_f64(),
    };
    print_result(context, &args, &verified);
    Ok(ExitCode::Done)
}

/// A good archive.
struct Verified<'a> {
    title: &'a str,
    bytes: u64,
    report: VerifyReport,
    signature: Option<GoodSignature>,
    seconds: f64,
}

/// Checks the signature, before anything of the archive is believed.
async fn check_signature_of(
    context: &Context,
    location: &ArchiveLocation,
    key: &PublicKey,
) -> Result<GoodSignature, Failure> {
    let (store, ui) = (location.store.as_ref(), context.ui.as_ref());
    let checked = check_signature(store, &location.object, key, ui).await;
    ui.finish_phase();
    checked.map_err(|error| {
        let class = match &error {
            SignedArchiveError::Missing { .. } => Some("incomplete"),
            SignedArchiveError::Bad { .. } => Some("damaged"),
            SignedArchiveError::Store(_) => None,
        };
        if let Some(class) = class {
            ui.json_problem(class, &location.title, &error.to_string());
        }
        Failure::from(error).prefix("verify")
    })
}

async fn read_all(
    context: &Context,
    args: &VerifyArgs,
    location: ArchiveLocation,
) -> Result<VerifyReport, Failure> {
    let ui = context.ui.as_ref();
    let ArchiveLocation {
        store,
        object,
        title,
    } = location;
    if args.any_zip {
        return Ok(any_zip(store, object, title, ui).await?);
    }
    let scope = match (args.quick, args.only.is_empty()) {
        (true, _) => VerifyScope::Quick,
        (false, true) => VerifyScope::Full,
        (false, false) => VerifyScope::Only(args.only.clone()),
    };
    Ok(verify(store, object, title, scope, &context.workers, ui).await?)
}

fn damaged(report: VerifyReport, title: &str) -> Failure {
    let mut failure = Failure::with_reasons(ExitCode::Damaged, report.problems);
    failure.hint = Some(match report.is_foreign {
        true => foreign_hint(title),
        false if report.entries == 0 => OTHER_COPY.to_owned(),
        false => damage_hint(&report.damaged_kinds),
    });
    failure.prefix("verify")
}

/// What helps with a zip that kindpack did not make.
fn foreign_hint(title: &str) -> String {
    format!(
        "check zips of other tools with `kindpack verify --any-zip {}`, or {UNZIP}",
        shell_quote(title)
    )
}

/// What helps with a damaged archive that could be opened.
fn damage_hint(damaged: &BTreeSet<KindRef>) -> String {
    let named = damaged.iter().take(KINDS_NAMED);
    let options = named.map(|kind| format!(" --exclude {}", shell_quote(&kind.to_string())));
    let options: String = options.collect();
    let more = damaged.len().saturating_sub(KINDS_NAMED);
    let options = match more {
        0 if options.is_empty() => " --exclude".to_owned(),
        0 => options,
        more => format!("{options} and {more} more"),
    };
    format!("use another archive, or restore only the undamaged kinds with{options}")
}

fn print_result(context: &Context, args: &VerifyArgs, verified: &Verified<'_>) {
    let ui = &context.ui;
    let Verified {
        title,
        report,
        seconds,
        ..
    } = verified;
    let seen = seen(args, report);
    ui.info(match args.only.is_empty() {
        true => format!(
            "OK: {title}: {seen}, {} ({seconds:.1} s)",
            output::bytes(verified.bytes)
        ),
        // What was not read has bytes, too.
        false => format!("OK: {title}, {seen} ({seconds:.1} s)"),
    });
    if let Some(signature) = &verified.signature {
        ui.info(format!("signed by key {}", signature.key));
        let comment = signature.trusted_comment.replace('\t', " ");
        ui.info(format!("trusted comment: {comment}"));
    }
    let is_whole = !args.quick && !args.any_zip && args.only.is_empty();
    if is_whole && report.sha256.is_none() {
        ui.info("it has no checksum file to compare it with");
    }
    show_set(ui, report);
    ui.done(json!({
        "archive": title, "entries": report.entries, "entities": report.entities, "companions": report.companions, "problems": [], "seconds": seconds,
        "accepted_counts": report.accepted_counts, "missing": report.missing, "snapshot_time": report.snapshot_time,
        "signature": verified.signature.as_ref().map(signature_event),
    }));
}

fn signature_event(signature: &GoodSignature) -> Value {
    json!({"key": signature.key.to_string(), "trusted_comment": signature.trusted_comment})
}

/// What was read.
fn seen(args: &VerifyArgs, report: &VerifyReport) -> String {
    let entries = output::counted(report.entries, "entry", "entries");
    let entries = entries + &output::and_companions(report.companions);
    let entities = output::counted(report.entities, "entity", "entities");
    match (args.any_zip, args.quick) {
        (true, false) => entries,
        (true, true) => format!("structure and manifest of {entries}"),
        (false, true) => format!("structure and manifest of {entries}, {entities}"),
        (false, false) if args.only.is_empty() => format!("{entries}, {entities}"),
        (false, false) => format!("only {}: {entries}, {entities}", selectors(&args.only)),
    }
}

fn selectors(only: &[Selector]) -> String {
    let texts: Vec<String> = only.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Says what a good archive does not show by being good.
fn show_set(ui: &Ui, report: &VerifyReport) {
    if let Some(instant) = report.snapshot_time {
        ui.info(format!("all exports show the data of {instant}"));
    }
    for count in &report.accepted_counts {
        ui.info(count.to_string());
    }
    for missing in &report.missing {
        ui.info(ui.warning(&missing.to_string()));
    }
}
