//! The folder of a demo, in which commands are shown, run and cut to size.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::json;
use tokio::process::Command;

use super::transcript;
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::text::{Text, shell_quote};

/// A demo as it runs: a folder of its own, and how the program is called there.
pub struct DemoSession<'a> {
    pub context: &'a Context,
    pub folder: PathBuf,
    program: PathBuf,
}

/// A folder that stays when the demo is over.
fn make_folder() -> io::Result<PathBuf> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("kindpack-demo-").tempdir()?;
    Ok(folder.keep())
}

impl<'a> DemoSession<'a> {
    /// A session in a new folder.
    pub fn new(context: &'a Context) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        Ok(DemoSession {
            context,
            folder: make_folder().map_err(|error| Failure::io("temporary folder", &error))?,
            program: program.map_err(|error| Failure::io("own program", &error))?,
        })
    }

    /// Says what makes the commands work when they are typed again.
    pub fn say_preparation(&self) {
        let ui = &self.context.ui;
        let quoted = |path: &PathBuf| shell_quote(&path.display().to_string());
        ui.info(format!("  cd {}", quoted(&self.folder)));
        ui.info(format!("  alias kindpack={}", quoted(&self.program)));
    }

    /// Begins a step of the demo.
    pub fn say_heading(&self, heading: &str) {
        let ui = &self.context.ui;
        ui.say_apart(ui.bold(heading));
    }

    /// Says a sentence of the demo's own.
    pub fn say(&self, sentence: &str) {
        let lines = transcript::wrapped(sentence);
        self.context.ui.say_lines(lines.into_iter().map(Text::from));
    }

    /// Shows a command of kindpack, runs it, and prints what it says.
    pub async fn kindpack(&self, args: &[&str]) -> Result<(), Failure> {
        self.show_kindpack(args, "");
        let output = self.run(args, Stdio::inherit(), ExitCode::Done).await?;
        self.print_result(&output.stdout);
        Ok(())
    }

    /// As [`DemoSession::kindpack`], of a command that ends with another code and says why.
    pub async fn kindpack_fails(&self, args: &[&str], code: ExitCode) -> Result<(), Failure> {
        self.show_kindpack(args, "");
        let output = self.run(args, Stdio::piped(), code).await?;
        self.say_output(&String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// As [`DemoSession::kindpack`], of which only the first line is wanted.
    pub async fn kindpack_head(&self, args: &[&str]) -> Result<(), Failure> {
        self.show_kindpack(args, " | head -n 1");
        let output = self.run(args, Stdio::inherit(), ExitCode::Done).await?;
        self.say_first_line(&output.stdout);
        Ok(())
    }

    /// Shows the command that prints the first line of a file, and prints it.
    pub fn head(&self, file: &str) -> Result<(), Failure> {
        self.show(&format!("head -n 1 {}", shell_quote(file)));
        let read = fs::read(self.folder.join(file));
        self.say_first_line(&read.map_err(|error| Failure::io(file, &error))?);
        Ok(())
    }

    /// Shows a command of the shell.
    pub fn show(&self, command: &str) {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        self.show_words(&words);
    }

    fn show_kindpack(&self, args: &[&str], end: &str) {
        let mut words = vec!["kindpack".to_owned()];
        words.extend(args.iter().map(|word| shell_quote(word)));
        if let Some(last) = words.last_mut() {
            last.push_str(end);
        }
        self.show_words(&words);
    }

    /// Shows a command. With `--json` it would end its own events: here one event stands for it.
    fn show_words(&self, words: &[String]) {
        let ui = &self.context.ui;
        let lines = transcript::command_lines(words);
        ui.say_lines(lines.into_iter().map(Text::from));
        ui.json_event(&json!({"event": "command", "command": words.join(" ")}));
    }

    async fn run(
        &self,
        args: &[&str],
        stderr: Stdio,
        expected: ExitCode,
    ) -> Result<Output, Failure> {
        let unusable = |error| Failure::io(self.program.display(), &error);
        let process = self.command(args).stderr(stderr).spawn();
        let output = process.map_err(unusable)?.wait_with_output().await;
        let output = output.map_err(unusable)?;
        let code = ExitCode::of_process(output.status);
        if code == expected {
            return Ok(output);
        }
        let why = format!("kindpack {} ended with {}", args.join(" "), output.status);
        Err(match code {
            ExitCode::Done => Failure::internal(why),
            code => Failure::new(code, why),
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.folder);
        command
            .env_remove("DATASTORE_EMULATOR_HOST")
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if self.context.ui.is_quiet() && !args.contains(&"--quiet") {
            command.arg("--quiet");
        }
        command
    }

    /// Prints what a command printed, also with `--quiet`, which the command has heard of.
    fn print_result(&self, printed: &[u8]) {
        let lines = transcript::output_lines(&String::from_utf8_lossy(printed));
        let lines = lines.into_iter().map(Text::from);
        self.context.ui.result_lines(lines);
    }

    fn say_first_line(&self, printed: &[u8]) {
        let printed = String::from_utf8_lossy(printed);
        self.say_output(printed.lines().next().unwrap_or_default());
    }

    fn say_output(&self, printed: &str) {
        let lines = transcript::output_lines(printed);
        self.context.ui.say_lines(lines.into_iter().map(Text::from));
    }
}
