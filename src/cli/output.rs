//! What people and machines see: tables, progress bars and sentences, or one JSON event a line.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle,
};
use serde::Serialize;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::args::Global;
use super::failure::Failure;
use super::text::{Text, escape_control, shell_quote};
use crate::progress::{Event, Observer, RequestOutcome, RequestReport};

/// How the program talks.
pub struct Ui {
    json: bool,
    /// Whether `--json` gives one document and no events.
    prints_document: bool,
    quiet: bool,
    verbose: u8,
    bars: bool,
    colour_out: bool,
    colour_err: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Ui {
    pub fn new(global: &Global, prints_document: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ui {
            json: global.json,
            prints_document,
            quiet: global.quiet,
            verbose: global.verbose,
            bars: !(global.json || global.quiet || global.no_progress)
                && io::stderr().is_terminal(),
            colour_out: !plain && io::stdout().is_terminal(),
            colour_err: !plain && io::stderr().is_terminal(),
            bar: Mutex::new(None),
        }
    }

    /// Whether output is for machines.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only results and errors are printed.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a line of the result on standard output, for people.
    pub fn info(&self, line: impl Into<Text>) {
        if !self.json && !self.quiet {
            print(line.into().as_str());
        }
    }

    /// As [`Ui::say`], with an empty line before it.
    pub fn say_apart(&self, line: impl Into<Text>) {
        self.info("");
        self.info(line);
    }

    /// As [`Ui::say`], many lines one after the other.
    pub fn say_lines(&self, lines: impl IntoIterator<Item = Text>) {
        if !self.json && !self.quiet {
            print_lines(lines);
        }
    }

    /// Prints the answer, one line after the other, also with `--quiet`.
    pub fn result_lines(&self, lines: impl IntoIterator<Item = Text>) {
        if !self.json {
            print_lines(lines);
        }
    }

    /// Prints a remark on standard error, for people.
    pub fn note(&self, line: impl Into<Text>) {
        if !self.json && !self.quiet {
            self.above_bar(line);
        }
    }

    /// Prints a warning on standard error, also beside events.
    pub fn warn(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.above_bar(self.paint_err("33", "warning:") + format!(" {}", line.as_ref()));
        }
    }

    /// Tells which archive was chosen. `list --json` prints the manifest and nothing else, so
    /// people's channel is used there.
    pub fn chosen(&self, archive: &str) {
        if self.json && !self.prints_document {
            print_event(&json!({"event": "chosen", "archive": archive}));
        } else if !self.quiet {
            self.above_bar(format!("the newest archive is {archive}"));
        }
    }

    /// Prints the last event of a command that ended well.
    pub fn done(&self, mut event: Value) {
        if self.json {
            if let Some(fields) = event.as_object_mut() {
                fields.insert("event".to_owned(), "done".into());
            }
            print_event(&event);
        }
    }

    /// Prints an event that is no [`Event`] of the library.
    pub fn json_event(&self, event: &impl Serialize) {
        if self.json {
            print_event(event);
        }
    }

    /// Prints a problem as an event; people get all of them with the failure.
    pub fn json_problem(&self, class: &'static str, of: &str, problem: &str) {
        if self.json {
            self.event(Event::Problem {
                class,
                of: of.to_owned(),
                problem: problem.to_owned(),
            });
        }
    }

    /// Says why a command failed; gives its exit code.
    pub fn fail(&self, failure: &Failure) -> std::process::ExitCode {
        self.finish_phase();
        if self.json {
            print_event(
                &json!({"event": "failed", "code": failure.code as u8, "error": failure.sentence()}),
            );
        }
        let name = self.paint_err("1;31", "kindpack:");
        for line in failure.lines() {
            print_error(name.clone() + format!(" {line}"));
        }
        if let Some(hint) = &failure.hint {
            print_error(self.paint_err("36", "hint:") + format!(" {hint}"));
        }
        failure.code.into()
    }

    /// A heading on standard output.
    pub fn bold(&self, text: &str) -> Text {
        Text::painted(self.colour_out, "1", text)
    }

    /// Something on standard output that destroys.
    pub fn danger(&self, text: &str) -> Text {
        Text::painted(self.colour_out, "1;31", text)
    }

    /// Something on standard output that may not be meant.
    pub fn warning(&self, text: &str) -> Text {
        Text::painted(self.colour_out, "33", text)
    }

    fn paint_err(&self, style: &str, text: &str) -> Text {
        Text::painted(self.colour_err, style, text)
    }

    /// The lines of a table that lines up: columns of numbers to the right. The rows are made
    /// twice, once to measure them, and never kept.
    pub fn table<R>(
        &self,
        heads: &[&str],
        right: &[usize],
        rows: R,
    ) -> impl Iterator<Item = Text> + use<R>
    where
        R: Iterator<Item = Vec<String>> + Clone,
    {
        let mut widths: Vec<usize> = heads.iter().map(|head| head.width()).collect();
        for row in rows.clone() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(escape_control(&cell).width());
            }
        }
        let columns: Vec<(usize, bool)> = widths
            .into_iter()
            .enumerate()
            .map(|(at, width)| (width, right.contains(&at)))
            .collect();
        let heads = line(&columns, heads.iter().map(|head| (*head).to_owned()));
        // Bold only when the columns stand: escape sequences have no width.
        std::iter::once(self.bold(&heads)).chain(
            rows.map(move |row| line(&columns, row.iter().map(|cell| escape_control(cell))).into()),
        )
    }

    fn above_bar(&self, line: impl Into<Text>) {
        let line = line.into();
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| print_error(line)),
            None => print_error(line),
        }
    }
}

impl Observer for Ui {
    fn event(&self, event: Event) {
        if self.json && !self.prints_document {
            print_event(&event);
            return;
        }
        match event {
            Event::Retry { call, attempt, reason, pause_seconds } => {
                if self.verbose > 0 {
                    self.above_bar(format!("{call}: attempt {attempt}: {reason}; the next one in {pause_seconds:.1} s"));
                }
            }
            Event::PartsLeft { folder, objects, bytes: len, reason } => {
                let parts = counted(objects, "part", "parts");
                self.note(format!("{folder}: {parts} ({}) could not be deleted: {reason}", bytes(len)));
            }
            Event::SetFound { exports, chosen, foreign, superseded } => {
                if self.verbose > 0 {
                    self.note(format!("{exports} exports found, {chosen} to pack, {foreign} objects that belong to none"));
                }
                for title in superseded {
                    self.note(format!("left out, a newer one is packed: {title}"));
                }
            }
            Event::Warning { warning } => self.note(self.paint_err("33", "warning:") + format!(" {warning}")),
            Event::UploadRestarted { reason } => self.note(format!("beginning anew: {reason}")),
            Event::Waiting { waiting_for } => self.note(format!("waiting for {}", waiting_for.join(", "))),
            Event::CopyKept { plan, .. } => self.note(format!("plan and journal are kept as {}", shell_quote(&plan))),
            Event::StepStarted { step, namespace, kind, entities, resumed } => {
                if self.verbose > 0 {
                    let from = if resumed > 0 { format!(", {resumed} of them by an earlier run") } else { String::new() };
                    self.note(format!("step {step}: {namespace}/{kind}, {entities} entities{from}"));
                }
            }
            Event::BackupStarted { backup, kinds, finished, snapshot_time } => {
                let kinds = counted(kinds, "kind", "kinds");
                let done = if finished > 0 { format!(", {finished} of them exported before") } else { String::new() };
                let shown = snapshot_time.map(|time| format!("; all show the data of {time}")).unwrap_or_default();
                self.note(format!("backup {backup}: {kinds}{done}{shown}"));
            }
            Event::ExportStarted { namespace, kind, attempt } => {
                if self.verbose > 0 {
                    self.note(format!("exporting {namespace}/{kind}, attempt {attempt}"));
                }
            }
            Event::ExportFailed { namespace, kind, error, advice } => {
                let advice = advice.map(|advice| format!(" {advice}")).unwrap_or_default();
                self.above_bar(format!("the export of {namespace}/{kind} failed: {error}.{advice}"));
            }
            Event::StepFailed { step, namespace, kind, error } => {
                self.above_bar(format!("step {step}: {namespace}/{kind} failed: {error}"))
            }
            Event::StagingLeft { step, reason } => self.above_bar(format!("step {step}: left behind: {reason}")),
            Event::IdsNotReserved { kinds } => self.above_bar(format!(
                "{}: the emulator may give new entities the ids of restored ones, and overwrite them; let it be reached over gRPC (HTTP/2)",
                counted(kinds, "kind", "kinds")
            )),
            // The failure at the end, or the table, tells these.
            Event::Problem { .. } | Event::Extracted { .. } | Event::StepFinished { .. } | Event::ExportFinished { .. } => {}
        }
    }

    fn request(&self, request: RequestReport) {
        if self.verbose > 1 {
            let outcome = match request.outcome {
                RequestOutcome::Status(status) => status.to_string(),
                RequestOutcome::Done => "done".to_owned(),
                RequestOutcome::Failed => "failed".to_owned(),
            };
            self.above_bar(format!(
                "{} {}: {outcome} in {} ms",
                request.method,
                request.resource,
                request.duration.as_millis()
            ));
        }
    }

    fn start_phase(&self, phase: &'static str, total: u64) {
        if !self.bars || total == 0 {
            return;
        }
        let template = match phase {
            "restoring" => {
                "{msg:>10} {bar:30} {human_pos}/{human_len} entities  {per_sec}  {eta} left"
            }
            "exporting" => "{msg:>10} {bar:30} {human_pos}/{human_len} kinds  {elapsed}",
            _ => {
                "{msg:>10} {bar:30} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left{prefix}"
            }
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10))
                .with_style(style.progress_chars("━━╌"));
        bar.set_message(phase);
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, done: u64, _: u64) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(done);
        }
    }

    fn finish_phase(&self) {
        if let Some(bar) = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }
}

/// Bytes for people, such as `338.4 KiB`.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A number with separators, such as `20,000`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Seconds for people, such as `5 minutes`.
pub fn duration(seconds: u64) -> String {
    HumanDuration(Duration::from_secs(seconds)).to_string()
}

/// The count of companions, appended to that of other objects; empty if there are none.
pub fn and_companions(companions: u64) -> String {
    match companions {
        0 => String::new(),
        some => format!(", {} among them", counted(some, "companion", "companions")),
    }
}

/// A number with its noun, such as `1 kind` or `27 kinds`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// One line of a table: cells as wide as their columns, with two blanks between them.
fn line(columns: &[(usize, bool)], cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for ((width, is_right), cell) in columns.iter().zip(cells) {
        let blanks = " ".repeat(width.saturating_sub(cell.width()));
        let (before, after) = if *is_right {
            (blanks.as_str(), "")
        } else {
            ("", blanks.as_str())
        };
        line.extend([before, &cell, after, "  "]);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Prints one event.
pub fn print_event(event: &impl Serialize) {
    print_with(|out| {
        serde_json::to_writer(&mut *out, event)?;
        out.write_all(b"\n")
    });
}

/// Whether standard output could not take what was printed, for another reason than that its reader
/// has gone away.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Whether something that was printed is lost.
pub fn output_lost() -> bool {
    OUTPUT_LOST.load(Ordering::Relaxed)
}

/// Prints to standard output.
fn print(text: &str) {
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    print_with(|out| {
        [text, line_end]
            .iter()
            .try_for_each(|part| out.write_all(part.as_bytes()))
    });
}

fn print_lines(lines: impl IntoIterator<Item = Text>) {
    print_with(|out| {
        lines
            .into_iter()
            .try_for_each(|line| writeln!(out, "{line}"))
    });
}

/// Writes to standard output. A reader that has gone away does not stop the work.
fn print_with(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            OUTPUT_LOST.store(true, Ordering::Relaxed)
        }
        _ => {}
    }
}

/// Prints to standard error, as far as that can be.
pub fn print_error(line: impl Into<Text>) {
    writeln!(io::stderr(), "{}", line.into()).ok();
}

/// Prints a document as indented JSON.
pub fn print_document(document: &impl Serialize) {
    print_with(|out| {
        serde_json::to_writer_pretty(&mut *out, document)?;
        out.write_all(b"\n")
    });
}

/// Prints a text as it is, which is for programs to read.
pub fn print_raw(text: &str) {
    print(text);
}
