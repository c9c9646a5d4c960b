//! `kindpack demo`: the whole way on the fixture that the program carries. Each command is shown
//! and then run as it is shown.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use include_dir::{Dir, File, include_dir};
use serde_json::json;
use tokio::process::Command;

use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::text::shell_quote;
use crate::datastore::emulator::{self, EmulatorError, InstalledEmulator};
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
    let demo = DemoRun::new(context)?;
    write_fixture(&EXPORTS, &demo.folder.join("exports"))?;
    demo.say_beginning();
    demo.pack_and_read().await?;
    demo.plan_and_restore().await?;
    let emulator = demo.emulator().await?;
    demo.say_end();
    let folder = demo.folder.display().to_string();
    let event = json!({"folder": folder, "emulator": emulator});
    context.ui.done(event);
    Ok(ExitCode::Done)
}

/// A folder that stays when the demo is over.
fn make_folder() -> io::Result<PathBuf> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("kindpack-demo-").tempdir()?;
    Ok(folder.keep())
}

/// The emulator that the environment names.
fn running_emulator() -> Option<String> {
    let host = std::env::var("DATASTORE_EMULATOR_HOST").ok()?;
    host_and_port(&host)
}

fn write_fixture(dir: &Dir<'_>, folder: &Path) -> Result<(), Failure> {
    // Beside the exports lies a list for tests, which no bucket would hold.
    let is_list = |file: &File<'_>| file.path() == Path::new("summary.json");
    for file in dir.files().filter(|file| !is_list(file)) {
        let path = folder.join(file.path());
        let written = write_below_folders(&path, file.contents());
        written.map_err(|error| Failure::io(path.display(), &error))?;
    }
    dir.dirs().try_for_each(|dir| write_fixture(dir, folder))
}

/// Writes a file, and makes the folders that it is in.
fn write_below_folders(path: &Path, contents: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, contents)
}

impl<'a> DemoRun<'a> {
    fn new(context: &'a Context) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        Ok(DemoRun {
            context,
            folder: make_folder().map_err(|error| Failure::io("temporary folder", &error))?,
            program: program.map_err(|error| Failure::io("own program", &error))?,
        })
    }

    fn say_beginning(&self) {
        let say = |text: &str| self.context.ui.info(text);
        let folder = shell_quote(&self.folder.display().to_string());
        let program = shell_quote(&self.program.display().to_string());
        say(
            "A backup as the nightly job leaves it: one export for each kind of each namespace, in a folder of its own.",
        );
        say(
            "They were made by Google's Datastore emulator. Everything below can be typed again in",
        );
        say(&format!("  cd {folder}"));
        say(&format!("  alias kindpack={program}"));
    }

    async fn pack_and_read(&self) -> Result<(), Failure> {
        let say_apart = |text: &str| self.context.ui.say_apart(text);
        say_apart(
            "1. Pack them into one zip. Each export is proved whole first: completion markers, checksums, counts.",
        );
        self.kindpack(&["pack", "exports", "backup.zip"]).await?;
        say_apart("2. What is in it? (Any unzip opens it, too.)");
        self.kindpack(&["list", "backup.zip"]).await?;
        say_apart("3. Is every byte as it must be?");
        self.kindpack(&["verify", "backup.zip"]).await
    }

    async fn plan_and_restore(&self) -> Result<(), Failure> {
        let say_apart = |text: &str| self.context.ui.say_apart(text);
        say_apart("4. In which order is it restored, and why? Nothing is touched yet.");
        let target = ["--target", "ndjson:restored", "-o", "plan.json"];
        self.kindpack(&[&["plan", "backup.zip"], target.as_slice()].concat())
            .await?;
        say_apart("5. Carry exactly that plan out: here into files of JSON, one for each kind.");
        self.kindpack(&["restore", "plan.json"]).await
    }

    fn say_end(&self) {
        let (ui, folder) = (&self.context.ui, self.folder.display());
        ui.say_apart(format!(
            "All of it is in {folder}; remove that folder when you have seen enough."
        ));
        ui.info("Next: kindpack pack YOUR_EXPORTS backup.zip   (kindpack --help shows the rest)");
    }

    /// Shows a command and runs it.
    async fn kindpack(&self, args: &[&str]) -> Result<(), Failure> {
        let words: Vec<String> = args.iter().map(|word| shell_quote(word)).collect();
        let shown = format!("kindpack {}", words.join(" "));
        self.show_command(&shown);
        let status = self.command(args).status().await;
        let status = status.map_err(|error| Failure::io(self.program.display(), &error))?;
        if status.success() {
            return Ok(());
        }
        let why = format!("{shown} failed: {status}");
        Err(Failure::new(ExitCode::of_process(status), why))
    }

    /// Shows a command. With `--json` it would end its own events: here one line tells of it.
    fn show_command(&self, shown: &str) {
        let ui = &self.context.ui;
        ui.info(format!("$ {shown}"));
        if ui.is_json() {
            ui.json_event(&json!({"event": "command", "command": shown}));
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.folder);
        command
            .env_remove("DATASTORE_EMULATOR_HOST")
            .kill_on_drop(true);
        if self.context.ui.is_json() {
            command.stdout(Stdio::null());
        }
        if self.context.ui.is_quiet() {
            command.arg("--quiet");
        }
        command
    }

    async fn restore_into(&self, target: &str) -> Result<(), Failure> {
        let plan = "into-emulator.json";
        self.kindpack(&[
            "plan",
            "backup.zip",
            "--target",
            target,
            "-o",
            plan,
            "--quiet",
        ])
        .await?;
        self.kindpack(&["restore", plan, "--check", "entities"])
            .await
    }

    /// The last act, where Google's emulator is there.
    async fn emulator(&self) -> Result<bool, Failure> {
        if let Some(host) = running_emulator() {
            self.restore_into_running(&host).await?;
            return Ok(true);
        }
        match emulator::find() {
            Ok(installed) => {
                self.restore_into_installed(installed).await?;
                Ok(true)
            }
            Err(error @ EmulatorError::NotUsable { .. }) => Err(error.into()),
            Err(error) => {
                self.say_left_out(&error);
                Ok(false)
            }
        }
    }

    async fn restore_into_running(&self, host: &str) -> Result<(), Failure> {
        self.context.ui.say_apart(format!(
            "6. Into the Datastore emulator that runs at {host}, as a project of its own, and every entity compared."
        ));
        self.restore_into(&self.target_at(host)).await
    }

    async fn restore_into_installed(&self, installed: InstalledEmulator) -> Result<(), Failure> {
        self.context.ui.say_apart(
            "6. Into Google's Datastore emulator, which is installed here: one is started for the demo, and every entity is compared.",
        );
        let running = installed.start().await?;
        self.restore_into(&self.target_at(running.host())).await?;
        running.stop().await;
        Ok(())
    }

    fn say_left_out(&self, error: &EmulatorError) {
        self.context.ui.say_apart(format!(
            "6. Left out: a restore into Google's Datastore emulator. {error}."
        ));
    }

    /// A project of the demo's own in the emulator at `host`.
    fn target_at(&self, host: &str) -> String {
        let name = self.folder.file_name();
        let name = name.map(|name| name.to_string_lossy().to_lowercase());
        let project = name.unwrap_or_default().replace('.', "-");
        format!("emulator:{project}@{host}")
    }
}
