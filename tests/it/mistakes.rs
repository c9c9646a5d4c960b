//! What somebody sees who mistypes: each message says what to type instead. The scene has a folder
//! of exports, an archive, a plan and a folder without archives.

use std::path::Path;

use insta::assert_snapshot;

use crate::support::fixtures::managed;
use crate::support::{TestDir, copy_folder};

/// The mistakes, as they are typed.
const MISTAKES: &[&str] = &[
    "version",
    "help resotre",
    "import set.zip",
    "export datastore:shop",
    "cat Customer set.zip",
    "cat set.zip order",
    "cat set.zip default/Customer",
    "cat set.zip acne/Order",
    r"cat set.zip Ord\er",
    "verify set.zip --only Ordr",
    "plan set.zip --only order --target ndjson:out",
    "plan set.zip --map-namespace acne=beta --target ndjson:out",
    "plan set.zip --sample 5 --target ndjson:out",
    "plan set.zip --sample 0.05 --target ndjson:out",
    "plan set.zip --limit 0 --target ndjson:out",
    "plan set.zip --limit -1 --target ndjson:out",
    "plan set.zip --only acm/* --target ndjson:out",
    "plan set.zip --only exports empty",
    "plan set.zip --redact rules.txt --target ndjson:out",
    "plan set.zip --redact Customer.emial=mask --target ndjson:out",
    "plan set.zip --redact Custmer.email=mask --target ndjson:out",
    "plan set.zip --profile laptop --target ndjson:out",
    "plan set.zip --profile laptop --config bad.toml --target ndjson:out",
    "plan set.zip --profile desktop --config bad.toml --target ndjson:out",
    "plan set.zip --target datastore:demo-src",
    "plan set.zip --namespace acme --target ndjson:out",
    "plan set.zip",
    "plan set.zip --target shop-test",
    "plan set.zip --target Datastore:shop-test",
    "plan set.zip --target localhost:8081",
    "plan set.zip --target http://localhost:8081",
    "plan set.zip --target ./out",
    "plan set.zip --target gs://shop/out",
    "plan set.zip --target",
    "plan set.zip --target ndjson:set.zip",
    "plan set.zip --target emulater:shop-test",
    "plan set.zip --target emulator:shop-test@localhost",
    "plan set.zip --target emulator:shop-test@localhost:99999",
    "plan set.zip --target emulator:shop-test",
    "plan set.zip --target datastore:123456789",
    "restore set.zip --target datastore:shop-test --confirm 123456789",
    "restore set.zip --target datastore:shop-test",
    "restore set.zip --traget ndjson:out",
    "restore exports --target ndjson:out",
    "restore exports/ --target ndjson:out",
    "restore emulator:shop-test set.zip",
    "restore empty.json",
    "restore cut.json",
    "restore plan.json --parallel 300",
    "restore plan.json --target ndjson:other",
    "restore - --target ndjson:out",
    "restore plan.json --report set.zip",
    "restore plan.json --report empty",
    "rehearse set.zip --report empty/",
    "restore plan.json --report plan.json",
    "restore plan.json --report -",
    "plan set.zip --target ndjson:out -o set.zip",
    "plan set.zip --target ndjson:out -o -",
    "plan set.zip --target dir:~/out",
    "plan set.zip --target ndjson:out --only Order --exclude *",
    "report set.zip -o plan.json",
    "report set.zip -o empty",
    "report set.zip --journal plan.json.journal",
    "report plan.json --namespace acme -o page.html",
    "report missing.zip",
    "report empty",
    "report -",
    "status -",
    "status set.zip",
    "status missing.json",
    "status note.txt",
    "restore set.zip",
    "restore note.txt",
    "verify plan.json",
    "list plan.json",
    "cat plan.json Order",
    "plan plan.json",
    "extract plan.json out",
    "rehearse plan.json",
    "verify note.txt",
    "list note.txt",
    "verify void.zip",
    "list void.zip",
    "verify truncated.zip",
    "list truncated.zip",
    "verify shut.zip",
    "archives set.zip",
    "prune empty",
    "config check",
    "list ./",
    "list exports",
    "list empty/",
    "list gs:/shop/set.zip",
    "list gs//shop/set.zip",
    "list GS://shop/set.zip",
    "list s3://shop/set.zip",
    "list set.zip --memory lots",
    "list set.zip --jobs many",
    "list set.zip --jobs 0",
    "list set.zip --namespace acme",
    "list ~/set.zip",
    "pack ~ann/exports out.zip",
    "pack exports empty",
    "pack exports out.zip --level 12",
    "pack exports out.zip --with set.zip",
    "pack exports out.zip --expect expected.txt",
    "pack twice out.zip --only acme/Order",
    "pack set.zip exports",
    "pack exports out.zip --dry-run --exclude Ordr --accept-count Custmer",
    "backup shop gs://exports gs://archive/",
    "backup gs://exports gs://archive/ datastore:shop",
    "backup datastore:shop gs://exports gs://archive/ --notify-mail-to me",
    "backup emulator:shop@127.0.0.1:1 dump out.zip --keep-last 2",
    "backup emulator:shop@127.0.0.1:1 dump set.zip/ --dry-run",
    "backup emulator:shop@127.0.0.1:1 gs://shop/dump out.zip --dry-run",
    "backup datastore:shop dump out.zip --dry-run",
    "pack empty archives",
    "backup emulator:shop@127.0.0.1:1 dump set.zip --dry-run",
    "pack set.zip out.zip",
    "pack empty out.zip",
    "pack exports out.zip --wait 60",
    "pack exports exports/out.zip",
    "extract out set.zip",
    "extract set.zip plan.json",
    "extract set.zip missing/folder/out",
];

#[test]
fn each_mistake_is_answered_by_what_to_type() {
    let desk = TestDir::new();
    copy_folder(Path::new(&managed().source), &desk.path("exports"));
    std::fs::create_dir(desk.path("empty")).unwrap();
    for night in ["first", "second"] {
        copy_folder(&desk.path("exports"), &desk.path(&format!("twice/{night}")));
    }
    desk.write("empty.json", "{}");
    desk.write("expected.txt", "# Every night\nOrder\nacme/Custmer\n");
    desk.expect(0, &["pack", "exports", "set.zip"]);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    write_faulty_files(&desk);
    let answers: Vec<String> = MISTAKES.iter().map(|line| answer(&desk, line)).collect();
    assert_snapshot!("mistakes", answers.join("\n"));
}

/// Files that are no archive and no plan, and one whose name lacks its end.
fn write_faulty_files(desk: &TestDir) {
    desk.write("note.txt", "buy bread\n");
    desk.write("void.zip", "");
    desk.write("bad.toml", "[profile.laptop]\nonly = [\"acm/*\"]\n");
    desk.write("shut.zip.age", "");
    for (name, cut) in [("set.zip", "truncated.zip"), ("plan.json", "cut.json")] {
        let whole = std::fs::read(desk.path(name)).unwrap();
        let half = whole.get(..whole.len() / 2).unwrap();
        std::fs::write(desk.path(cut), half).unwrap();
    }
}

/// What is printed on standard error, after the plan that a restore shows first.
fn answer(desk: &TestDir, line: &str) -> String {
    let args: Vec<&str> = line.split(' ').collect();
    let run = desk.run(&args);
    let work = desk.work();
    let printed = run.err.replace(work.to_str().unwrap(), "[folder]");
    format!("$ kindpack {line}\n{}[exit {}]\n", printed, run.code)
}
