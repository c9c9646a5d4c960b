//! `kindpack verify ARCHIVE`.

use std::time::Instant;

use serde_json::{Value, json};

use crate::archive::signed::{SignedArchiveError, check_signature};
use crate::cli::args::VerifyArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::keys::read_public_key;
use crate::cli::open_archive::{self, ArchiveLocation};
use crate::cli::output::{self, Ui};
use crate::cli::text::shell_quote;
use crate::model::Selector;
use crate::progress::Observer as _;
use crate::signature::{GoodSignature, PublicKey};
use crate::verify::{VerifyReport, VerifyScope, any_zip, verify};

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
    failure.hint = damage_hint(report.is_foreign, report.entries, title);
    open_archive::hint_at_plan(failure, title).prefix("verify")
}

/// What helps with an archive that is damaged: with one that could be opened, and with one
/// that could not.
fn damage_hint(is_foreign: bool, entries: u64, title: &str) -> Option<String> {
    if is_foreign {
        return Some(format!(
            "check zips of other tools with `kindpack verify --any-zip {}`",
            shell_quote(title)
        ));
    }
    (entries > 0).then(|| {
        "use another archive, or restore only the undamaged kinds with --exclude".to_owned()
    })
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
        let comment = signature.trusted_comment.replace('\t', ", ");
        ui.info(format!("signed by key {}: {comment}", signature.key));
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
