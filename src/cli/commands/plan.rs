//! `kindpack plan ARCHIVE --target TARGET`: the plan as a table, or as a document with `-o`.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::archive::{self, absolute, no_bucket};
use super::pack::shell;
use crate::archive::catalog::{sidecar_digest, told_digest};
use crate::archive::{ArchiveFile, digest_of};
use crate::cli::args::PlanArgs;
use crate::cli::failure::{Code, Failure};
use crate::cli::plan_options::{choices, environment};
use crate::cli::plan_view::{show, show_explained};
use crate::cli::{Context, Ended};
use crate::model::address::{host_and_port, without_user};
use crate::model::{KindItem, Pair};
use crate::plan::{
    ArchiveRef, Choices, Plan, RuleMatch, Step, TargetSpec, explain, named_kinds, plan,
};
use crate::restore::rule_matches;
use crate::store::{DirStore, Location, write_whole};
use crate::transform::redact::{Rule, Rules};

const WHAT: &str = "cannot plan";

/// The event that shows a plan.
#[derive(Serialize)]
struct Planned<'a> {
    event: &'static str,
    plan: &'a Plan,
}

pub async fn run(context: &Context, args: PlanArgs) -> Ended {
    let ui = &context.ui;
    let choices = choices(WHAT, args.choices).await?;
    let archive = archive::open(context, WHAT, &args.archive).await?;
    let plan = make(context, WHAT, &archive, &choices).await?;
    let mut next = "-o plan.json keeps this plan; kindpack restore plan.json runs it".to_owned();
    if let Some(output) = &args.output {
        no_bucket(WHAT, output)?;
        let (folder, name) = Location::split_local(output).ok_or_else(|| {
            Failure::usage(
                WHAT,
                format!(
                    "{}: expected the name of a file, found none",
                    output.display()
                ),
            )
        })?;
        // A plan may be made again; what is replaced is whole before and after.
        let written = write_whole(
            &DirStore::new(folder),
            &name,
            plan.to_json().into_bytes().into(),
            true,
        )
        .await;
        written.map_err(|error| Failure::store(WHAT, &error))?;
        next = format!("kindpack restore {}", shell(&output.display().to_string()));
    }
    match &args.explain {
        None => show(context, &plan),
        Some(selector) => {
            let explained = explain(archive.manifest(), &choices, selector)
                .map_err(|error| Failure::plan(WHAT, &error))?;
            show_explained(context, &explained);
            ui.json_event(&json!({"event": "explained", "kinds": explained}));
        }
    }
    if let Some(output) = &args.output {
        ui.say_apart(format!("Wrote {}", output.display()));
    }
    if args.explain.is_none() || args.output.is_some() {
        ui.say(format!("Next: {next}"));
    }
    if args.explain.is_none() {
        // Not as a `Value`, which takes many times the memory of the plan.
        ui.json_event(&Planned {
            event: "plan",
            plan: &plan,
        });
    }
    ui.done(
        json!({"steps": plan.steps.len(), "skipped": plan.skipped.len(), "entities": plan.totals.entities, "bytes": plan.totals.bytes}),
    );
    Ok(if args.detailed_exitcode && !plan.steps.is_empty() {
        Code::Steps
    } else {
        Code::Done
    })
}

/// The archive as plans pin it. In a bucket its object says its digest, or the sidecar does: all of
/// it is read only where neither can.
pub async fn reference(what: &str, archive: &Arc<ArchiveFile>) -> Result<ArchiveRef, Failure> {
    let container = archive.container();
    let (store, object) = (container.store(), container.object());
    let read = async || {
        digest_of(store.as_ref(), object)
            .await
            .map_err(|error| Failure::archive_store(what, &error))
    };
    if !store.is_remote() {
        let location = absolute(container.title().as_ref()).display().to_string();
        return Ok(ArchiveRef {
            location,
            sha256: read().await?,
            generation: None,
        });
    }
    let told = match told_digest(object) {
        Some(sha256) => Some(sha256),
        None => sidecar_digest(store.as_ref(), &object.name).await,
    };
    let sha256 = match told {
        Some(sha256) => sha256,
        None => read().await?,
    };
    Ok(ArchiveRef {
        location: container.title().to_owned(),
        sha256,
        generation: Some(object.version.to_string()),
    })
}

/// What each rule matches in entities of `pairs`.
async fn matches(
    context: &Context,
    what: &str,
    archive: &Arc<ArchiveFile>,
    pairs: &[Pair],
    rules: &Rules,
) -> Result<Vec<(Rule, Vec<String>)>, Failure> {
    let found = rule_matches::matches(archive, pairs, rules, &context.workers)
        .await
        .map_err(|error| Failure::archive(what, &error))?;
    Ok(found
        .into_iter()
        .map(|rule_matches::RuleMatch { rule, properties }| (rule, properties))
        .collect())
}

/// Makes a plan. Where properties are redacted, the archive is read to see what each rule matches.
pub async fn make(
    context: &Context,
    what: &str,
    archive: &Arc<ArchiveFile>,
    choices: &Choices,
) -> Result<Plan, Failure> {
    let reference = reference(what, archive).await?;
    let environment = environment();
    let failed = |error| Failure::plan(what, &error);
    if let (
        TargetSpec::Emulator {
            host: Some(host), ..
        },
        Some(other),
    ) = (&choices.target, &environment.emulator_host)
        && host_and_port(other).as_ref() != Some(host)
    {
        let other = without_user(other);
        context.ui.remark(format!(
            "DATASTORE_EMULATOR_HOST names {other:?}; the target's own address is used"
        ));
    }
    // What is refused is refused before anything is read.
    let made = plan(archive.manifest(), &reference, choices, &environment).map_err(failed)?;
    if choices.redaction.rules.is_empty() {
        return Ok(made);
    }
    let manifest = archive.manifest();
    let rules = Rules::new(&choices.redaction.rules, named_kinds(manifest))
        .map_err(|error| failed(error.into()))?;
    let restored: Vec<Pair> = made.steps.iter().map(Step::pair).collect();
    drop(made);
    let found = matches(context, what, archive, &restored, &rules).await?;
    let mut choices = choices.clone();
    choices.redaction.matches = found
        .into_iter()
        .map(|(rule, properties)| RuleMatch {
            rule,
            properties,
            left_out: Vec::new(),
        })
        .collect();
    let is_idle = |found: &RuleMatch| found.properties.is_empty() && !found.rule.is_optional();
    if choices.redaction.matches.iter().any(is_idle) {
        // A rule for what is left out this time is not misspelt.
        let restored: HashSet<&Pair> = restored.iter().collect();
        let left_out: Vec<Pair> = manifest
            .kinds
            .iter()
            .map(KindItem::pair)
            .filter(|pair| !restored.contains(pair))
            .collect();
        let idle: Vec<Rule> = choices
            .redaction
            .matches
            .iter()
            .filter(|found| is_idle(found))
            .map(|found| found.rule.clone())
            .collect();
        let rules =
            Rules::new(&idle, named_kinds(manifest)).map_err(|error| failed(error.into()))?;
        let mut found = matches(context, what, archive, &left_out, &rules)
            .await?
            .into_iter();
        for one in choices
            .redaction
            .matches
            .iter_mut()
            .filter(|found| is_idle(found))
        {
            one.left_out = found
                .next()
                .map(|(_, properties)| properties)
                .unwrap_or_default();
        }
    }
    plan(manifest, &reference, &choices, &environment).map_err(failed)
}
