//! What people and machines see: tables, progress bars and sentences, or one JSON event a line.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::args::Global;
use super::failure::Failure;
pub use super::numbers::{and_companions, bytes, count, counted, duration, exports, short_bytes};
use super::phase::Phase;
use super::table;
use super::text::{Text, shell_quote};
use crate::model::{Kind, Namespace};
use crate::progress::{Event, Observer};

/// How the program talks.
pub struct Ui {
    json: bool,
    /// Whether `--json` gives one document and no events.
    prints_document: bool,
    quiet: bool,
    verbose: u8,
    progress: ProgressStyle,
    colour_out: bool,
    colour_err: bool,
    phase: Mutex<Option<Phase>>,
    /// What long waits were reported for.
    awaited: Mutex<BTreeSet<String>>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProgressStyle {
    Hidden,
    /// On a terminal.
    Bar,
    /// In a pipe or a file.
    Lines,
}

impl ProgressStyle {
    fn of(global: &Global) -> Self {
        match () {
            () if global.json || global.quiet || global.no_progress => ProgressStyle::Hidden,
            () if io::stderr().is_terminal() => ProgressStyle::Bar,
            () => ProgressStyle::Lines,
        }
    }
}

impl Ui {
    pub fn new(global: &Global, prints_document: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ui {
            json: global.json,
            prints_document,
            quiet: global.quiet,
            verbose: global.verbose,
            progress: ProgressStyle::of(global),
            colour_out: !plain && io::stdout().is_terminal(),
            colour_err: !plain && io::stderr().is_terminal(),
            phase: Mutex::new(None),
            awaited: Mutex::default(),
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

    /// Prints a line `waiting for PLACE: CAUSE` on standard error, once for each place.
    pub fn note_wait(&self, line: &str) {
        let place = line.split(": ").next().unwrap_or(line);
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if awaited.insert(place.to_owned()) {
            self.note(line);
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
            print_failed(failure);
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

    /// Whether a line of progress is to be printed now and then.
    pub fn prints_progress_lines(&self) -> bool {
        self.progress == ProgressStyle::Lines
    }

    /// Prints how far the phase has come, where there is one.
    pub fn print_progress_line(&self) {
        let line = self.phase().as_ref().map(Phase::line);
        if let Some(line) = line {
            print_error(line);
        }
    }

    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what is worked on.
    fn set_label(&self, label: impl Into<Text>) {
        if let Some(phase) = &*self.phase() {
            phase.set_label(label.into().as_str());
        }
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

    /// The lines of a table, with bold heads; see [`table::lines`].
    pub fn table<R>(
        &self,
        heads: &[&str],
        right: &[usize],
        rows: R,
    ) -> impl Iterator<Item = Text> + use<R>
    where
        R: Iterator<Item = Vec<String>> + Clone,
    {
        // Bold only when the columns stand: escape sequences have no width.
        let is_bold = self.colour_out;
        let mut lines = table::lines(heads, right, rows);
        let heads = lines.next().unwrap_or_default();
        std::iter::once(Text::painted(is_bold, "1", &heads)).chain(lines.map(Text::from))
    }

    /// Prints a line on standard error, without a break in the progress bar.
    pub fn above_bar(&self, line: impl Into<Text>) {
        let line = line.into();
        match &*self.phase() {
            Some(phase) => phase.suspend(|| print_error(line)),
            None => print_error(line),
        }
    }

    /// Prints details, with `-v`.
    fn detail(&self, line: impl Into<Text>) {
        if self.verbose > 0 {
            self.note(line);
        }
    }

    fn show(&self, event: Event) {
        match event {
            Event::Retry {
                call,
                attempt,
                reason,
                pause_seconds,
            } if self.verbose > 0 => {
                self.above_bar(format!(
                    "{call}: attempt {attempt}: {reason}; the next one in {pause_seconds:.1} s"
                ));
            }
            Event::PartsLeft {
                folder,
                objects,
                bytes: len,
                reason,
            } => {
                let parts = counted(objects, "part", "parts");
                self.note(format!(
                    "{folder}: could not delete {parts} ({}): {reason}",
                    bytes(len)
                ));
            }
            Event::SetFound {
                exports,
                chosen,
                foreign,
                superseded,
            } => {
                self.detail(format!(
                    "found {exports} exports, {chosen} to pack; {foreign} files belong to none"
                ));
                for title in superseded {
                    self.note(format!("left out, a newer export is packed: {title}"));
                }
            }
            Event::Warning { warning } => {
                self.note(self.paint_err("33", "warning:") + format!(" {warning}"))
            }
            Event::UploadRestarted { reason } => self.note(format!("starting over: {reason}")),
            Event::Waiting { waiting_for } => {
                self.note(format!("waiting for {}", waiting_for.join(", ")))
            }
            Event::CopyKept { plan, .. } => {
                self.note("plan and journal are saved as");
                self.note(format!("  {}", shell_quote(&plan)));
            }
            Event::BackupStarted { .. }
            | Event::StepStarted { .. }
            | Event::ExportStarted { .. } => self.show_start(event),
            // The failure at the end, or the table, shows the others.
            other => self.show_fault(other),
        }
    }

    /// Shows what has gone wrong, also with `--quiet`.
    fn show_fault(&self, event: Event) {
        match event {
            Event::ExportFailed { namespace, kind, error, advice } => {
                let advice = advice.map(|advice| format!(" {advice}")).unwrap_or_default();
                self.above_bar(format!("the export of {namespace}/{kind} failed: {error}.{advice}"));
            }
            Event::StepFailed { step, namespace, kind, error } => {
                self.above_bar(format!("step {step}: {namespace}/{kind} failed: {error}"))
            }
            Event::StagingLeft { step, reason } => {
                self.above_bar(format!("step {step}: could not remove the staged export: {reason}"))
            }
            Event::IdsNotReserved { kinds } => self.above_bar(format!(
                "{}: the emulator may give restored ids to new entities, which then overwrite them; \
                 to prevent this, let kindpack reach it over gRPC (HTTP/2)",
                counted(kinds, "kind", "kinds")
            )),
            _ => {}
        }
    }

    /// Shows what is worked on now.
    fn show_start(&self, event: Event) {
        match event {
            Event::StepStarted {
                step,
                namespace,
                kind,
                entities,
                resumed,
                number,
                steps,
            } => {
                self.set_label(format!(
                    "step {number} of {steps} {}",
                    pair(&namespace, &kind)
                ));
                let from = if resumed > 0 {
                    format!(", {resumed} of them by an earlier run")
                } else {
                    String::new()
                };
                self.detail(format!(
                    "step {step}: {}, {entities} entities{from}",
                    pair(&namespace, &kind)
                ));
            }
            Event::BackupStarted {
                backup,
                kinds,
                finished,
                ..
            } if finished > 0 => {
                let exports = counted(kinds, "export is", "exports are");
                self.note(format!(
                    "continuing backup {backup}: {finished} of {exports} finished; --new begins another"
                ));
            }
            Event::ExportStarted {
                namespace,
                kind,
                attempt,
            } => {
                self.set_label(format!("exporting {}", pair(&namespace, &kind)));
                self.detail(format!(
                    "exporting {}, attempt {attempt}",
                    pair(&namespace, &kind)
                ));
            }
            _ => {}
        }
    }
}

fn pair(namespace: &Namespace, kind: &Kind) -> String {
    format!("{namespace}/{kind}")
}

impl Observer for Ui {
    fn event(&self, event: Event) {
        if self.json && !self.prints_document {
            print_event(&event);
        } else {
            self.show(event);
        }
    }

    fn start_phase(&self, phase: &'static str, total: u64) {
        if self.progress != ProgressStyle::Hidden && total > 0 {
            let has_bar = self.progress == ProgressStyle::Bar;
            *self.phase() = Some(Phase::new(phase, total, has_bar));
        }
    }

    fn start_entry(&self, name: &str) {
        let phase = self.phase().as_ref().map(Phase::name);
        if let Some(phase) = phase {
            self.set_label(format!("{phase} {}", last_segments(name)));
        }
    }

    fn advance(&self, done: u64, _: u64) {
        if let Some(phase) = &*self.phase() {
            phase.advance(done);
        }
    }

    fn skip(&self, done: u64) {
        if let Some(phase) = &*self.phase() {
            phase.skip(done);
        }
    }

    fn finish_phase(&self) {
        let phase = self.phase().take();
        if let Some(phase) = phase {
            phase.finish();
        }
    }
}

/// The folder and the file of an entry, which name its kind: the folders before them are long and
/// mostly the same.
fn last_segments(name: &str) -> &str {
    let cut = name.rmatch_indices('/').nth(1);
    cut.map_or(name, |(slash, _)| &name[slash + 1..])
}

/// Prints the last event of a command that failed.
fn print_failed(failure: &Failure) {
    let mut event = json!({
        "event": "failed", "code": failure.code as u8, "error": failure.sentence(), "reasons": failure.why,
    });
    if let (Some(hint), Some(fields)) = (&failure.hint, event.as_object_mut()) {
        fields.insert("hint".to_owned(), hint.as_str().into());
    }
    print_event(&event);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names_the_kind_of_an_entry() {
        let name = "exports/20261127175817/acme/Order/namespace_acme/kind_Order/output-0";
        assert_eq!(last_segments(name), "kind_Order/output-0");
        assert_eq!(last_segments("a/b"), "a/b");
        assert_eq!(last_segments("SHA256SUMS"), "SHA256SUMS");
    }
}
