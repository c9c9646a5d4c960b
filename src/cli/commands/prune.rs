//! `kindpack prune DEST`: which archives stay and which go, and why; then the latter go.

use serde_json::json;

use crate::cli::args::PruneArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::prune_view::{show_plan, show_result, sizes};
use crate::prune::{Decision, PrunePlan, PruneResult, PrunedArchive};

pub async fn run(context: &Context, args: PruneArgs) -> CommandResult {
    let ui = &context.ui;
    let store = context.stores.folder(&args.dest);
    let identities = context.identities.read().await?;
    let (policy, namespace) = (args.keep.policy(), args.namespace.as_deref());
    let plan = PrunePlan::new(&store, &policy, namespace, identities).await?;
    show_plan(ui, &args.dest, &plan);
    let (kept, left) = (count(&plan, is_kept), count(&plan, is_left));
    let (removals, bytes) = (plan.removals() as u64, plan.removed_bytes());
    let verified = plan.verify_kept(&context.workers, ui.as_ref()).await?;
    let result = if args.dry_run {
        ui.say_apart(format!("Would remove {}", sizes(removals, bytes)));
        PruneResult::default()
    } else {
        let result = verified.remove(ui.as_ref()).await?;
        show_result(ui, &result);
        result
    };
    ui.done(json!({
        "kept": kept, "left": left, "removed": result.removed.len(), "bytes": result.removed_bytes,
        "held": result.held.len(), "dry_run": args.dry_run,
    }));
    Ok(ExitCode::Done)
}

fn is_kept(archive: &PrunedArchive) -> bool {
    matches!(archive.decision, Decision::Keep(_))
}

fn is_left(archive: &PrunedArchive) -> bool {
    matches!(archive.decision, Decision::Leave(_))
}

fn count(plan: &PrunePlan, is_one: fn(&PrunedArchive) -> bool) -> usize {
    plan.archives.iter().filter(|one| is_one(one)).count()
}
