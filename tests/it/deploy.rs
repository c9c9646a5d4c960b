//! The files of `deploy/`, held against the programs and schemas that read them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kindpack::config::Config;
use serde_json::Value;

use crate::support::{PROGRAM, TestDir, outside_program, python_with};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(deploy(name)).unwrap()
}

#[test]
fn systemd_accepts_service_and_timer() {
    let test = "the units for systemd";
    let Some(analyze) = outside_program("systemd", &["systemd-analyze"], test) else {
        return;
    };
    let desk = TestDir::new();
    let units = ["kindpack-backup.service", "kindpack-backup.timer"];
    for unit in units {
        // The program is not installed here.
        let unit_text =
            text(&format!("systemd/{unit}")).replace("/usr/local/bin/kindpack", PROGRAM);
        desk.write(unit, unit_text);
    }
    let output = Command::new(analyze)
        .arg("verify")
        .args(units.map(|unit| desk.path(unit)))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    // Units of this machine may have faults of their own.
    let ours = printed
        .lines()
        .filter(|line| line.contains("kindpack-backup"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn kubernetes_schema_accepts_the_cron_job() {
    let test = "the CronJob for Kubernetes";
    let Some(python) = python_with("kubernetes-validate==1.37.0", "kubernetes_validate", test)
    else {
        return;
    };
    let script = python.with_file_name("kubernetes-validate");
    let output = Command::new(script)
        .arg("--strict")
        .arg(deploy("kubernetes/cronjob.yaml"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}

#[test]
fn published_schemas_accept_action_workflow_and_compose() {
    let test = "the action, the workflow and the compose file";
    let Some(python) = python_with("check-jsonschema==0.39.0", "check_jsonschema", test) else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (schema, file) in [
        ("github-actions", ".github/actions/restore/action.yml"),
        ("github-workflows", "deploy/github-actions/restore.yml"),
        ("github-workflows", ".github/workflows/ci.yml"),
        ("compose-spec", "deploy/compose/compose.yaml"),
    ] {
        let output = Command::new(python.with_file_name("check-jsonschema"))
            .args(["--builtin-schema", &format!("vendor.{schema}")])
            .arg(root.join(file))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{file}: {printed}");
    }
}

/// The script of the action's step that restores.
fn restore_script() -> String {
    let action = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions/restore/action.yml");
    let action: Value = serde_saphyr::from_str(&fs::read_to_string(action).unwrap()).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == "restore").unwrap();
    step["run"].as_str().unwrap().to_owned()
}

#[test]
fn action_restores_and_exports_the_variables() {
    let desk = TestDir::new();
    // Stands for the program: it shows what it is given.
    desk.write(
        "bin/kindpack",
        "#!/bin/sh\nprintf '%s|' \"$@\" > args\n[ -z \"${KINDPACK_REDACT_KEY+set}\" ]\n",
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(desk.path("bin/kindpack"), mode).unwrap();
    let path = format!("{}:/usr/bin:/bin", desk.path("bin").display());
    let status = desk
        .program("bash", &["-e", "-o", "pipefail", "-c", &restore_script()])
        .env("PATH", path)
        .env("ARCHIVE", "gs://shop-archive/")
        .env("PROJECT", "shop-test")
        .env("PORT", "8081")
        .env("ONLY", "Order\nacme/My Kind\n")
        .env("REDACT", "Customer.email=drop\n")
        .env("KINDPACK_REDACT_KEY", "")
        .env("GITHUB_ENV", desk.path("env"))
        .env("GITHUB_OUTPUT", desk.path("output"))
        .status()
        .unwrap();
    assert!(status.success());
    let read = |name| String::from_utf8(desk.read(name)).unwrap();
    let target = "emulator:shop-test@localhost:8081";
    assert_eq!(
        read("args"),
        format!(
            "restore|gs://shop-archive/|--target|{target}|--only|Order|--only|acme/My Kind|--redact|Customer.email=drop|"
        )
    );
    assert_eq!(
        read("env"),
        "DATASTORE_EMULATOR_HOST=localhost:8081\nDATASTORE_PROJECT_ID=shop-test\n"
    );
    assert_eq!(read("output"), "emulator-host=localhost:8081\n");
}

#[test]
fn compose_restores_before_the_application_starts() {
    let compose = &documents("compose/compose.yaml")[0]["services"];
    let condition = &compose["application"]["depends_on"]["restore"]["condition"];
    assert_eq!(condition, "service_completed_successfully");
    // The command is one that the program understands: it fails for the missing folder alone.
    let args = compose["restore"]["command"].as_array().unwrap();
    let args: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
    let run = TestDir::new().expect(2, &args);
    assert!(run.err.contains("/archives/"), "{}", run.brief());
}

/// The documents of a file of YAML.
fn documents(name: &str) -> Vec<Value> {
    let text = text(name);
    let parts = text.split("\n---\n");
    parts
        .map(|part| serde_saphyr::from_str(part).unwrap())
        .collect()
}

#[test]
fn configuration_in_the_config_map_is_read() {
    let documents = documents("kubernetes/cronjob.yaml");
    let toml = documents[1]["data"]["kindpack.toml"].as_str().unwrap();
    let config = Config::read(toml, "kindpack.toml", Path::new("")).unwrap();
    assert_eq!(config.apps.len(), 1);
}

#[test]
fn every_way_starts_the_same_command() {
    let kubernetes = &documents("kubernetes/cronjob.yaml")[2]["spec"]["jobTemplate"];
    let kubernetes = &kubernetes["spec"]["template"]["spec"]["containers"][0]["args"];
    let cloud_run = &documents("cloud-run/job.yaml")[0]["spec"]["template"]["spec"];
    let cloud_run = &cloud_run["template"]["spec"]["containers"][0]["args"];
    assert_eq!(kubernetes, cloud_run);
    let command = "backup --config /etc/kindpack/kindpack.toml";
    let args: Vec<&str> = kubernetes
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(args.join(" ").starts_with(command));
    for name in ["systemd/kindpack-backup.service", "cron/kindpack"] {
        assert!(
            text(name).contains(&format!("kindpack {command}")),
            "{name}"
        );
    }
}

/// How often the line of cron runs a program that ends with this code. It does not pause.
fn runs_of_cron_line(code: u8) -> usize {
    let desk = TestDir::new();
    let line = text("cron/kindpack");
    let (_, command) = line.split_once("sh -c '").unwrap();
    let (command, _) = command.split_once('\'').unwrap();
    desk.write("backup", format!("echo run >> log; exit {code}"));
    let mut sh = desk.program("sh", &["-c", &command.replace("sleep 600", ":")]);
    sh.env("BACKUP", "sh backup").status().unwrap();
    String::from_utf8(desk.read("log")).unwrap().lines().count()
}

#[test]
fn cron_repeats_only_failed_services_and_incomplete_backups() {
    let runs = [0, 2, 3, 4, 5, 6, 7].map(runs_of_cron_line);
    assert_eq!(runs, [1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn example_of_the_guide_is_a_configuration() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/nightly.md");
    let guide = fs::read_to_string(guide).unwrap();
    let toml = guide.split("```toml\n").nth(1).unwrap();
    let toml = toml.split("```").next().unwrap();
    let config = Config::read(toml, "kindpack.toml", Path::new("")).unwrap();
    assert_eq!(config.apps.len(), 2);
}
