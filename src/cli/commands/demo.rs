//! `kindpack demo`: the whole way on the fixture that the program carries. Each command is shown
//! and then run as it is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use include_dir::{Dir, include_dir};
use serde_json::json;
use tokio::process::Command;

use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::text::shell_quote;
use crate::datastore::emulator::{self, EmulatorError};
use crate::model::address::host_and_port;

/// Genuine exports of the Datastore emulator: 9 kinds in 3 namespaces, 258 entities.
static EXPORTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/managed");

/// The demo as it runs: a folder of its own, and how the program is called there.
struct DemoRun<'a> {
    context: &'a Context,
    folder: PathBuf,
    program: PathBuf,
}

pub async fn run(context: &Context) -> CommandResult {
    let folder = tempfile::Builder::new()
        .prefix("kindpack-demo-")
        .tempdir()
        .map_err(|error| Failure::io("temporary folder", &error))?
        .keep();
    let program = std::env::current_exe().map_err(|error| Failure::io("own program", &error))?;
    let demo = DemoRun {
        context,
        folder,
        program,
    };
    write_fixture(&EXPORTS, &demo.folder.join("exports"))?;
    let say = |text: &str| context.ui.info(text);
    let say_apart = |text: &str| context.ui.say_apart(text);

    say(
        "A backup as the nightly job leaves it: one export for each kind of each namespace, in a folder of its own.",
    );
    say("They were made by Google's Datastore emulator. Everything below can be typed again in");
    say(&format!(
        "  cd {}",
        shell_quote(&demo.folder.display().to_string())
    ));
    say(&format!(
        "  alias kindpack={}",
        shell_quote(&demo.program.display().to_string())
    ));

    say_apart(
        "1. Pack them into one zip. Each export is proved whole first: finish marks, checksums, counts.",
    );
    demo.kindpack(&["pack", "exports", "backup.zip"]).await?;
    say_apart("2. What is in it? (Any unzip opens it, too.)");
    demo.kindpack(&["list", "backup.zip"]).await?;
    say_apart("3. Is every byte as it must be?");
    demo.kindpack(&["verify", "backup.zip"]).await?;
    say_apart("4. In which order is it restored, and why? Nothing is touched yet.");
    demo.kindpack(&[
        "plan",
        "backup.zip",
        "--target",
        "ndjson:restored",
        "-o",
        "plan.json",
    ])
    .await?;
    say_apart("5. Carry exactly that plan out: here into files of JSON, one for each kind.");
    demo.kindpack(&["restore", "plan.json"]).await?;

    let emulator = demo.emulator().await?;
    say_apart(&format!(
        "All of it is in {}; remove that folder when you have seen enough.",
        demo.folder.display()
    ));
    say("Next: kindpack pack YOUR_EXPORTS backup.zip   (kindpack --help shows the rest)");
    context
        .ui
        .done(json!({"folder": demo.folder.display().to_string(), "emulator": emulator}));
    Ok(ExitCode::Done)
}

fn write_fixture(dir: &Dir<'_>, folder: &Path) -> Result<(), Failure> {
    for file in dir.files() {
        // Beside the exports lies a list for tests, which no bucket would hold.
        if file.path() == Path::new("summary.json") {
            continue;
        }
        let path = folder.join(file.path());
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, file.contents()));
        written.map_err(|error| Failure::io(path.display(), &error))?;
    }
    dir.dirs().try_for_each(|dir| write_fixture(dir, folder))
}

impl DemoRun<'_> {
    /// Shows a command and runs it.
    async fn kindpack(&self, args: &[&str]) -> Result<(), Failure> {
        let words: Vec<String> = args.iter().map(|word| shell_quote(word)).collect();
        self.context
            .ui
            .info(format!("$ kindpack {}", words.join(" ")));
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(&self.folder)
            .env_remove("DATASTORE_EMULATOR_HOST")
            .kill_on_drop(true);
        if self.context.ui.is_json() {
            // Each command would end its own events; here one line tells of it.
            self.context.ui.json_event(
                &json!({"event": "command", "command": format!("kindpack {}", words.join(" "))}),
            );
            command.stdout(Stdio::null());
        }
        if self.context.ui.is_quiet() {
            command.arg("--quiet");
        }
        let status = command
            .status()
            .await
            .map_err(|error| Failure::io(self.program.display(), &error))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::of_process(status),
            format!("kindpack {} failed: {status}", words.join(" ")),
        ))
    }

    async fn restore_into(&self, target: &str) -> Result<(), Failure> {
        self.kindpack(&[
            "plan",
            "backup.zip",
            "--target",
            target,
            "-o",
            "into-emulator.json",
            "--quiet",
        ])
        .await?;
        self.kindpack(&["restore", "into-emulator.json", "--check", "entities"])
            .await
    }

    /// The last act, where Google's emulator is there.
    async fn emulator(&self) -> Result<bool, Failure> {
        let say_apart = |text: &str| self.context.ui.say_apart(text);
        let project = self
            .folder
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let restore = |host: String| format!("emulator:{}@{host}", project.replace('.', "-"));
        if let Some(host) = std::env::var("DATASTORE_EMULATOR_HOST")
            .ok()
            .and_then(|host| host_and_port(&host))
        {
            say_apart(&format!(
                "6. Into the Datastore emulator that runs at {host}, as a project of its own, and every entity compared."
            ));
            self.restore_into(&restore(host)).await?;
            return Ok(true);
        }
        match emulator::find() {
            Ok(installed) => {
                say_apart(
                    "6. Into Google's Datastore emulator, which is installed here: one is started for the demo, and every entity is compared.",
                );
                let running = installed.start().await?;
                self.restore_into(&restore(running.host().to_owned()))
                    .await?;
                running.stop().await;
                Ok(true)
            }
            Err(error @ EmulatorError::NotUsable { .. }) => Err(error.into()),
            Err(error) => {
                say_apart(&format!(
                    "6. Left out: a restore into Google's Datastore emulator. {error}."
                ));
                Ok(false)
            }
        }
    }
}
