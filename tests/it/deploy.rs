//! The files of `deploy/`, held against the programs and schemas that read them.

use std::fs;
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
