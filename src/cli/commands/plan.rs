//! `kindpack plan ARCHIVE --target TARGET`: the plan as a table, or as a document with `-o`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::archive::{self, absolute, no_bucket};
use super::pack::shell;
use crate::cli::args::{IntoArg, PlanArgs, PlanChoices, ViaArg};
use crate::cli::failure::{Code, Failure};
use crate::cli::{Context, Ended, ui};
use kindpack::archive_file::{ArchiveFile, digest_of};
use kindpack::model::Sha256;
use kindpack::pack::SHA256_ATTRIBUTE;
use kindpack::plan::{ArchiveRef, Choices, Environment, Into, NamespaceMap, Plan, Selection, TargetSpec, Via, plan};
use kindpack::store::{DirStore, Location, ObjectInfo, Store, read_whole, write_whole};
use kindpack::sums;

const WHAT: &str = "cannot plan";

/// How many kinds that are left out for one reason are named; the document names all.
const LEFT_OUT_SHOWN: usize = 4;

/// Sidecars longer than this are none.
const SIDECAR_MAX_BYTES: u64 = 64 << 10;

pub async fn run(context: &Context, args: PlanArgs) -> Ended {
    let ui = &context.ui;
    let choices = choices(WHAT, args.choices)?;
    let archive = archive::open(context, WHAT, &args.archive).await?;
    let plan = make(WHAT, &archive, &choices).await?;
    let mut next = "-o plan.json keeps this plan; kindpack restore plan.json runs it".to_owned();
    if let Some(output) = &args.output {
        no_bucket(WHAT, output)?;
        let (folder, name) = Location::split_local(output)
            .ok_or_else(|| Failure::usage(WHAT, format!("{}: expected the name of a file, found none", output.display())))?;
        // A plan may be made again; what is replaced is whole before and after.
        let written = write_whole(&DirStore::new(folder), &name, plan.to_json().into_bytes().into(), true).await;
        written.map_err(|error| Failure::store(WHAT, &error))?;
        next = format!("kindpack restore {}", shell(&output.display().to_string()));
    }
    show(context, &plan);
    if let Some(output) = &args.output {
        ui.say(format!("\nWrote {}", output.display()));
    }
    ui.say(format!("Next: {next}"));
    ui.json_event(&json!({"event": "plan", "plan": plan}));
    ui.done(
        json!({"steps": plan.steps.len(), "skipped": plan.skipped.len(), "entities": plan.totals.entities, "bytes": plan.totals.bytes}),
    );
    Ok(if args.detailed_exitcode && !plan.steps.is_empty() { Code::Steps } else { Code::Done })
}

/// The choices of the arguments, as the planner takes them; what this version cannot do is refused.
pub fn choices(what: &str, args: PlanChoices) -> Result<Choices, Failure> {
    if args.into == IntoArg::Replace {
        return Err(Failure::not_yet(what, "--into replace").hint("--into merge overwrites the same keys and leaves other entities"));
    }
    if args.via == ViaArg::Import {
        return Err(Failure::not_yet(what, "--via import").hint("--target dir:PATH makes exports that Google's own import takes"));
    }
    if !args.redact.is_empty() {
        return Err(Failure::not_yet(what, "--redact"));
    }
    let Some(target) = args.target else {
        return Err(Failure::usage(what, "--target: expected emulator:PROJECT[@HOST:PORT], dir:PATH or ndjson:PATH, found none")
            .hint("a target is never guessed"));
    };
    let into = if args.into == IntoArg::Merge { Into::Merge } else { Into::Empty };
    match &target {
        TargetSpec::Datastore { .. } => {}
        TargetSpec::Dir(_) | TargetSpec::Ndjson(_) if into == Into::Merge => {
            return Err(Failure::usage(
                what,
                format!("--into merge: expected a target that can merge, found {target}, which is written whole"),
            ));
        }
        _ => {}
    }
    let target = match target {
        TargetSpec::Dir(path) | TargetSpec::Ndjson(path) if path.starts_with("gs://") => return Err(Failure::not_yet(what, &path)),
        TargetSpec::Dir(path) => TargetSpec::Dir(absolute(path.as_ref()).display().to_string()),
        TargetSpec::Ndjson(path) => TargetSpec::Ndjson(absolute(path.as_ref()).display().to_string()),
        target => target,
    };
    let map_namespaces = NamespaceMap::join(args.map_namespace).map_err(|error| Failure::usage(what, error.to_string()))?;
    let selection = Selection {
        only: args.only,
        skip: args.skip,
        first: args.first,
        last: args.last,
        after: args.after,
        ..Selection::default()
    };
    Ok(Choices { via: Via::Commit, into, map_namespaces, selection, ..Choices::new(target) })
}

/// What the planner is told of the world.
pub fn environment() -> Environment {
    Environment {
        emulator_host: std::env::var_os("DATASTORE_EMULATOR_HOST").map(|host| host.to_string_lossy().into_owned()),
        ..Environment::default()
    }
}

/// The archive as plans pin it. In a bucket its object says its digest, or the sidecar does: all of it is read only where neither can.
pub async fn reference(what: &str, archive: &Arc<ArchiveFile>) -> Result<ArchiveRef, Failure> {
    let container = archive.container();
    let (store, object) = (container.store(), container.object());
    if !store.is_remote() {
        let sha256 = digest_of(store.as_ref(), object).await.map_err(|error| Failure::archive_store(what, &error))?;
        return Ok(ArchiveRef { location: absolute(container.title().as_ref()).display().to_string(), sha256, generation: None });
    }
    let told = object.attributes.get(SHA256_ATTRIBUTE).and_then(|digest| digest.parse().ok());
    let sha256 = match told {
        Some(sha256) => sha256,
        None => match sidecar(store.as_ref(), object).await {
            Some(sha256) => sha256,
            None => digest_of(store.as_ref(), object).await.map_err(|error| Failure::archive_store(what, &error))?,
        },
    };
    Ok(ArchiveRef { location: container.title().to_owned(), sha256, generation: None })
}

/// What the sidecar of an archive says, if there is one for it.
async fn sidecar(store: &dyn Store, archive: &ObjectInfo) -> Option<Sha256> {
    let object = store.stat(&format!("{}.sha256", archive.name)).await.ok().filter(|object| object.len <= SIDECAR_MAX_BYTES)?;
    let text = read_whole(store, &object).await.ok()?;
    let (sha256, name) = sums::parse_first(std::str::from_utf8(&text).ok()?)?;
    (archive.name.rsplit('/').next() == Some(&name)).then_some(sha256)
}

/// Makes a plan.
pub async fn make(what: &str, archive: &Arc<ArchiveFile>, choices: &Choices) -> Result<Plan, Failure> {
    let reference = reference(what, archive).await?;
    let plan = plan(archive.manifest(), &reference, choices, &environment()).map_err(|error| Failure::plan(what, &error))?;
    // The guards of the planner come first: they say more about a target that is the wrong one.
    match plan.target {
        TargetSpec::Datastore { .. } => {
            Err(Failure::not_yet(what, &plan.target.to_string()).hint("--target dir:PATH makes exports that Google's own import takes"))
        }
        _ => Ok(plan),
    }
}

/// Shows a plan as a table.
pub fn show(context: &Context, plan: &Plan) {
    let ui = &context.ui;
    let moves = plan.steps.iter().any(|step| step.namespace != step.to_namespace);
    let mut heads = vec!["STEP", "NAMESPACE", "KIND", "ENTITIES", "BYTES", "BECAUSE"];
    if moves {
        heads.insert(2, "TO");
    }
    let right: Vec<usize> = if moves { vec![0, 4, 5] } else { vec![0, 3, 4] };
    let rows = plan.steps.iter().map(|step| {
        let mut row = vec![
            step.id.to_string(),
            step.namespace.to_string(),
            step.kind.to_string(),
            ui::count(step.entities),
            ui::bytes(step.bytes),
            step.because.clone(),
        ];
        if moves {
            row.insert(2, step.to_namespace.to_string());
        }
        row
    });
    ui.say(ui.table(&heads, &right, rows));
    let mut left_out: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for skipped in &plan.skipped {
        left_out.entry(&skipped.because).or_default().push(format!("{}/{}", skipped.namespace, skipped.kind));
    }
    for (because, kinds) in left_out {
        let more = kinds.len().saturating_sub(LEFT_OUT_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        ui.say(format!("left out, {because}: {}{more}", kinds.into_iter().take(LEFT_OUT_SHOWN).collect::<Vec<_>>().join(", ")));
    }
    for cycle in &plan.cycles {
        let members: Vec<String> = cycle.iter().map(|member| format!("{}/{}", member.namespace, member.kind)).collect();
        ui.say(format!("in a cycle, so that any order is as good: {}", members.join(", ")));
    }
    ui.say(format!(
        "\n{}, {}, {} into {} ({})",
        ui::counted(plan.totals.steps, "step", "steps"),
        ui::counted(plan.totals.entities, "entity", "entities"),
        ui::bytes(plan.totals.bytes),
        plan.target,
        plan.into
    ));
}
