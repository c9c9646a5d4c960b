//! The second day of a restore: the same command again, a new plan under an old name, a target that
//! has changed since.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::emulator::{Emulator, emulator};
use crate::support::entities::{assert_same, moved};
use crate::support::fixtures::managed;
use crate::support::{Run, Running, TestDir, sound};

/// A desk with the archive of the managed fixture.
fn packed() -> TestDir {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk
}

/// The names in the folder where kindpack keeps plans and journals.
fn kept(desk: &TestDir) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state_folder(desk)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "leases");
    names.sort();
    names
}

fn state_folder(desk: &TestDir) -> PathBuf {
    desk.home().join("state/kindpack")
}

/// Runs `kindpack ARGS` with a plan on standard input that comes through a pipe.
fn run_piped(desk: &TestDir, plan: &str, args: &[&str]) -> Run {
    let command = format!(
        "cat {plan} | {} {}",
        crate::support::PROGRAM,
        args.join(" ")
    );
    sound(
        Running::start(desk.program("bash", &["-c", &command])).wait(),
        args,
    )
}

fn acme_orders(emulator: &Emulator, project: &str) -> Vec<Value> {
    emulator.query(project, "acme", "Order")
}

fn delete(emulator: &Emulator, project: &str, entity: &Value) {
    emulator.call(
        project,
        "commit",
        &json!({"mode": "NON_TRANSACTIONAL", "mutations": [{"delete": entity["key"]}]}),
    );
}

#[test]
fn finished_replace_mends_what_was_broken_since() {
    let Some(emulator) = emulator("a finished restore with --on-existing replace") else {
        return;
    };
    let (desk, set) = (packed(), managed());
    for on_existing in ["replace", "merge"] {
        let project = emulator.fresh_project();
        let target = emulator.target(&project);
        desk.plan(
            "set.zip",
            &target,
            "plan.json",
            &["--on-existing", on_existing],
        );
        for command in [
            &[
                "restore",
                "set.zip",
                "--target",
                &target,
                "--on-existing",
                on_existing,
            ][..],
            &["restore", "plan.json"],
        ] {
            desk.json(0, command);
            let mut changed = acme_orders(emulator, &project).swap_remove(0);
            changed["properties"] = json!({"broken": {"booleanValue": true}});
            emulator.upsert(&project, &[changed]);
            delete(
                emulator,
                &project,
                &acme_orders(emulator, &project).swap_remove(1),
            );
            let event = desk.json(0, command);
            assert_eq!(
                (&event["already_done"], &event["restored"]),
                (&json!(false), &json!(258)),
                "{on_existing}"
            );
            assert_same(
                &moved(&set.truth, set.project, &project, &[]),
                &emulator.everything(&project),
                false,
                on_existing,
            );
        }
    }
}

#[test]
fn unfinished_replace_goes_on_where_it_stopped() {
    let Some(emulator) = emulator("an unfinished restore with --on-existing replace") else {
        return;
    };
    let desk = packed();
    let target = emulator.target(&emulator.fresh_project());
    desk.plan(
        "set.zip",
        &target,
        "plan.json",
        &["--on-existing", "replace"],
    );
    let first = desk.json(
        7,
        &[
            "restore",
            "plan.json",
            "--max-steps",
            "3",
            "--report",
            "report.json",
        ],
    );
    assert!(
        first["error"].as_str().unwrap().contains("3 of 27"),
        "{first}"
    );
    assert_eq!(
        desk.json(0, &["restore", "plan.json"])["already_there"],
        desk.json_file("report.json")["totals"]["restored"]
    );
}

#[test]
fn finished_restore_asks_the_target() {
    let Some(emulator) = emulator("a finished restore whose target changes") else {
        return;
    };
    let desk = packed();
    let project = emulator.fresh_project();
    desk.plan(
        "set.zip",
        &emulator.target(&project),
        "plan.json",
        &["--only", "acme/*"],
    );
    desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        desk.json(0, &["restore", "plan.json", "--check", "entities"])["already_done"],
        true
    );

    let mut changed = acme_orders(emulator, &project).swap_remove(0);
    let original = changed.clone();
    changed["properties"] = json!({"broken": {"booleanValue": true}});
    emulator.upsert(&project, std::slice::from_ref(&changed));
    assert_eq!(
        desk.json(0, &["restore", "plan.json"])["already_done"],
        true,
        "counts are right"
    );
    let run = desk.expect(
        5,
        &[
            "restore",
            "plan.json",
            "--check",
            "entities",
            "--report",
            "report.json",
        ],
    );
    assert!(
        run.err
            .contains("acme/Order: 1 entities are missing or differ")
            && run.err.contains("--again"),
        "{}",
        run.err
    );
    assert_eq!(desk.json_file("report.json")["totals"]["differing"], 1);

    delete(emulator, &project, &changed);
    for options in [
        &[][..],
        &["--check", "none"],
        &["--check", "entities"],
        &["--retry-failed"],
    ] {
        let args: Vec<&str> = ["restore", "plan.json"]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let error = desk.json(5, &args)["error"].to_string();
        assert!(
            error.contains("acme/Order: expected 8 entities, found 7"),
            "{options:?}: {error}"
        );
    }
    desk.json(5, &["restore", "plan.json", "--again"]);
    emulator.upsert(&project, &[original]);
    assert_eq!(
        desk.json(0, &["restore", "plan.json", "--check", "entities"])["already_done"],
        true,
        "nothing was forgotten"
    );
}

#[test]
fn missing_files_are_noticed_afterwards() {
    for target in ["ndjson:out", "dir:out"] {
        let desk = packed();
        desk.plan("set.zip", target, "plan.json", &["--only", "acme/*"]);
        desk.json(0, &["restore", "plan.json"]);
        let files = crate::support::files_below(&desk.path("out"));
        let (_, order) = files
            .iter()
            .find(|(name, _)| name.contains("acme/Order") && !name.ends_with("metadata"))
            .unwrap();
        let bytes = fs::read(order).unwrap();
        fs::write(order, &bytes[..bytes.len() / 2]).unwrap();
        let error = desk.json(5, &["restore", "plan.json"])["error"].to_string();
        assert!(
            error.contains("has changed since") && error.contains("Order"),
            "{target}: {error}"
        );
        fs::remove_dir_all(desk.path("out")).unwrap();
        let error = desk.json(5, &["restore", "plan.json"])["error"].to_string();
        assert!(error.contains("and 4 more kinds"), "{target}: {error}");
        assert_eq!(
            desk.json(0, &["restore", "plan.json", "--again"])["restored"],
            86,
            "{target}"
        );
        assert_eq!(
            desk.json(0, &["restore", "plan.json"])["already_done"],
            true,
            "{target}"
        );
    }
}

#[test]
fn emptied_target_restarts_one_step_restore() {
    let desk = packed();
    let args = [
        "restore",
        "set.zip",
        "--target",
        "ndjson:out",
        "--only",
        "acme/*",
    ];
    desk.json(0, &args);
    assert_eq!(desk.json(0, &args)["already_done"], true);
    fs::remove_file(desk.path("out/acme/Order.ndjson")).unwrap();
    desk.json(5, &args);
    fs::remove_dir_all(desk.path("out")).unwrap();
    let event = desk.json(0, &args);
    assert_eq!(
        (&event["already_done"], &event["restored"]),
        (&json!(false), &json!(86))
    );
}

#[test]
fn refused_again_leaves_the_journal_as_it_is() {
    let desk = packed();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(7, &["restore", "plan.json", "--max-steps", "4"]);
    let journal = desk.read("plan.json.journal");
    desk.json(5, &["restore", "plan.json", "--again"]);
    assert!(desk.read("plan.json.journal") == journal);
    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        (&event["steps"], &event["entities"]),
        (&json!(27), &json!(258))
    );
    desk.json(2, &["restore", "plan.json", "--again", "--retry-failed"]);
}

#[test]
fn finished_journal_of_an_older_plan_is_renamed() {
    let desk = packed();
    for (number, target) in ["ndjson:monday", "ndjson:tuesday", "ndjson:wednesday"]
        .into_iter()
        .enumerate()
    {
        desk.plan("set.zip", target, "plan.json", &["--only", "acme/*"]);
        desk.json(7, &["status", "plan.json", "--require-complete"]);
        desk.json(0, &["restore", "plan.json", "--dry-run"]);
        let run = desk.expect(0, &["restore", "plan.json"]);
        assert_eq!(
            run.err.contains("it is now plan.json.journal."),
            number > 0,
            "{}",
            run.err
        );
        desk.json(0, &["status", "plan.json", "--require-complete"]);
        let journals = desk
            .names_in(".")
            .into_iter()
            .filter(|name| name.starts_with("plan.json.journal"))
            .count();
        assert_eq!(journals, number + 1);
    }
}

#[test]
fn unfinished_journal_of_another_plan_is_refused() {
    let desk = packed();
    desk.plan(
        "set.zip",
        "ndjson:monday",
        "plan.json",
        &["--only", "acme/*"],
    );
    desk.json(7, &["restore", "plan.json", "--max-steps", "2"]);
    desk.plan(
        "set.zip",
        "ndjson:tuesday",
        "plan.json",
        &["--only", "acme/*"],
    );
    for (args, advice) in [
        (&["restore", "plan.json"][..], "--again"),
        (&["restore", "plan.json", "--dry-run"], "--again"),
        (&["status", "plan.json"], "--journal FILE"),
    ] {
        let run = desk.expect(5, args);
        for words in ["plan.json.journal", "2 of 9 steps", "/monday", advice] {
            assert!(run.err.contains(words), "{args:?}: {words}: {}", run.err);
        }
    }
    desk.json(0, &["restore", "plan.json", "--journal", "tuesday.journal"]);
    fs::remove_dir_all(desk.path("tuesday")).unwrap();
    desk.json(0, &["restore", "plan.json", "--again"]);
    let aside = desk
        .names_in(".")
        .into_iter()
        .find(|name| name.starts_with("plan.json.journal."))
        .unwrap();
    desk.plan(
        "set.zip",
        "ndjson:monday",
        "monday.json",
        &["--only", "acme/*"],
    );
    assert_eq!(
        desk.json(0, &["restore", "monday.json", "--journal", &aside])["steps"],
        9,
        "nothing of it is lost"
    );
}

#[test]
fn piped_plan_is_restored_and_gone_on_with() {
    let desk = packed();
    desk.plan("set.zip", "ndjson:out", "plan.json", &["--only", "acme/*"]);
    let run = run_piped(
        &desk,
        "plan.json",
        &["restore", "/dev/stdin", "--max-steps", "2"],
    );
    assert_eq!(run.code, 7, "{}", run.brief());
    let names = kept(&desk);
    let [plan, journal] = names.as_slice() else {
        panic!("{names:?}")
    };
    assert_eq!(*journal, format!("{plan}.journal"));
    let again = format!(
        "kindpack restore {}",
        state_folder(&desk).join(plan).display()
    );
    assert!(run.err.contains(&again), "{again}: {}", run.err);
    let run = run_piped(&desk, "plan.json", &["restore", "<(cat plan.json)"]);
    assert_eq!(run.code, 0, "{}", run.brief());
    let run = run_piped(
        &desk,
        "plan.json",
        &["status", "/dev/stdin", "--require-complete"],
    );
    assert_eq!(run.code, 0, "{}", run.brief());
    assert!(!desk.path("plan.json.journal").exists());
}

#[test]
fn refused_one_go_restore_keeps_nothing() {
    let desk = packed();
    desk.json(
        5,
        &["restore", "set.zip", "--target", "datastore:shop-test"],
    );
    desk.json(
        5,
        &[
            "restore",
            "set.zip",
            "--target",
            "datastore:shop-test",
            "--confirm",
            "shop",
        ],
    );
    desk.write("out/acme/Order.ndjson", "{}\n");
    desk.json(5, &["restore", "set.zip", "--target", "ndjson:out"]);
    assert_eq!(kept(&desk), [""; 0]);
}

#[test]
fn old_plans_of_finished_restores_are_removed() {
    let desk = packed();
    let restore = |code: i32, target: &str, options: &[&str]| {
        let before = kept(&desk);
        let args: Vec<&str> = ["restore", "set.zip", "--only", "acme/*", "--target", target]
            .iter()
            .chain(options)
            .copied()
            .collect();
        desk.json(code, &args);
        kept(&desk)
            .into_iter()
            .filter(|name| !before.contains(name))
            .collect::<Vec<String>>()
    };
    let finished = restore(0, "ndjson:finished", &[]);
    let unfinished = restore(7, "ndjson:unfinished", &["--max-steps", "2"]);
    let young = restore(0, "ndjson:young", &[]);
    let mine = ["notes.json", "0123456789abcdef0123456789abcdef.txt"];
    for name in mine {
        fs::write(state_folder(&desk).join(name), "mine").unwrap();
    }
    let old = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
    for name in finished
        .iter()
        .chain(&unfinished)
        .map(String::as_str)
        .chain(mine)
    {
        File::options()
            .append(true)
            .open(state_folder(&desk).join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    restore(0, "ndjson:new", &[]);
    let left = kept(&desk);
    assert!(finished.iter().all(|name| !left.contains(name)), "{left:?}");
    assert!(
        unfinished
            .iter()
            .chain(&young)
            .all(|name| left.contains(name))
            && mine.iter().all(|name| left.contains(&(*name).to_owned()))
    );
    assert_eq!(restore(0, "ndjson:unfinished", &[]), [""; 0], "it goes on");
}

/// A line of a journal with a right checksum.
fn journal_line(event: &Value) -> String {
    let text = event.to_string();
    let rest = text.strip_prefix('{').unwrap();
    format!(
        "{{\"crc\":\"{:08x}\",{rest}\n",
        crc32c::crc32c(rest.as_bytes())
    )
}

#[test]
fn journal_that_skips_a_kind_is_refused() {
    let desk = packed();
    desk.plan(
        "set.zip",
        "ndjson:out",
        "plan.json",
        &["--only", "acme/Order"],
    );
    desk.json(0, &["restore", "plan.json"]);
    let text = String::from_utf8(desk.read("plan.json.journal")).unwrap();
    let forged: String = text
        .lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event.as_object_mut().unwrap().remove("crc");
            if event.get("entities").is_some() {
                event["entities"] = 0.into();
            }
            journal_line(&event)
        })
        .collect();
    fs::remove_dir_all(desk.path("out")).unwrap();
    desk.write("plan.json.journal", forged);
    for args in [
        &["restore", "plan.json"][..],
        &["restore", "plan.json", "--dry-run"],
        &["status", "plan.json"],
    ] {
        let error = desk.json(5, args)["error"].to_string();
        assert!(
            error.contains("acme/Order") && error.contains("expected 8 entities, found 0"),
            "{args:?}: {error}"
        );
    }
}

#[test]
fn plan_hooks_are_shown_before_running() {
    let desk = packed();
    desk.plan(
        "set.zip",
        "ndjson:out",
        "plan.json",
        &[
            "--only",
            "acme/Order",
            "--before-step",
            "true",
            "--after-all",
            "echo end",
        ],
    );
    let shown = desk.expect(0, &["restore", "plan.json"]);
    for words in ["before each step: true", "at the end: echo end"] {
        assert!(shown.text().contains(words), "{words}: {}", shown.text());
    }
    assert!(
        !desk
            .expect(0, &["restore", "plan.json"])
            .text()
            .contains("echo end"),
        "nothing is run any more"
    );
    fs::remove_dir_all(desk.path("out")).unwrap();
    let run = desk.expect(0, &["restore", "plan.json", "--again", "--json"]);
    let hooks = run
        .events()
        .into_iter()
        .find(|event| event["event"] == "hooks")
        .unwrap();
    assert_eq!(
        hooks,
        json!({"event": "hooks", "before_step": "true", "after_step": null, "after_all": "echo end"})
    );
}

#[test]
fn plan_over_an_unfinished_one_warns() {
    let desk = packed();
    let plan = |target: &str| {
        let plan = ["plan", "set.zip", "-o", "plan.json", "--target", target];
        desk.expect(0, &plan)
    };
    plan("ndjson:monday");
    desk.expect(7, &["restore", "plan.json", "--max-steps", "1"]);
    let same = plan("ndjson:monday");
    assert!(!same.err.contains("warning"), "{}", same.err);
    let other = plan("ndjson:tuesday");
    let warning = "the restore of the plan before has not finished";
    assert!(other.err.contains(warning), "{}", other.err);
    let next = "Next: kindpack restore plan.json --again";
    assert!(other.text().contains(next), "{}", other.text());
    desk.expect(0, &["restore", "plan.json", "--again"]);
}

#[test]
fn hint_of_a_filled_target_keeps_the_plans_options() {
    let Some(emulator) = emulator("the hint of a target that is not empty") else {
        return;
    };
    let desk = packed();
    let target = emulator.target(&emulator.fresh_project());
    for (name, more) in [
        ("all.json", &[][..]),
        ("one.json", &["--only", "acme/Order"]),
    ] {
        desk.plan("set.zip", &target, name, more);
    }
    desk.expect(0, &["restore", "one.json"]);
    fs::remove_file(desk.path("one.json.journal")).unwrap();
    let one = desk.expect(5, &["restore", "one.json"]).err;
    assert!(
        one.contains("the same options and --on-existing merge"),
        "{one}"
    );
    assert!(!one.contains("kindpack plan"), "{one}");
    let all = desk.expect(5, &["restore", "all.json"]).err;
    for part in ["kindpack plan ", " --on-existing merge -o all.json"] {
        assert!(all.contains(part), "{all}");
    }
}
