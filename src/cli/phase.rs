//! A phase of long work: its bar on a terminal, or its line in a pipe.

use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::progress_line::{ProgressLine, Unit};

/// The width of a terminal that does not tell its own.
const USUAL_COLUMNS: usize = 80;

/// A line of progress is printed so often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Work that is shown while it goes on.
pub struct Phase {
    name: &'static str,
    unit: Unit,
    label: Arc<Mutex<String>>,
    bar: ProgressBar,
    begun: Instant,
    /// Units that were done before.
    skipped: AtomicU64,
}

impl Phase {
    pub fn new(name: &'static str, total: u64, has_bar: bool) -> Self {
        let target = if has_bar {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let (unit, label) = (Unit::of_phase(name), Arc::<Mutex<String>>::default());
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style(
            name,
            unit,
            label.clone(),
        ));
        if has_bar {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Phase {
            name,
            unit,
            label,
            bar,
            begun: Instant::now(),
            skipped: AtomicU64::new(0),
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn advance(&self, done: u64) {
        self.bar.inc(done);
    }

    /// Counts units that were done before: they say nothing of the speed.
    pub fn skip(&self, done: u64) {
        self.skipped.fetch_add(done, Ordering::Relaxed);
        self.bar.inc(done);
        self.bar.reset_eta();
    }

    pub fn set_label(&self, label: &str) {
        label.clone_into(&mut self.label.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Does something while the bar is away.
    pub fn suspend(&self, act: impl FnOnce()) {
        self.bar.suspend(act);
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }

    /// How far it has come, for a pipe.
    pub fn line(&self) -> String {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let worked = done.saturating_sub(self.skipped.load(Ordering::Relaxed));
        let per_second = worked as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let seconds = total.saturating_sub(done) as f64 / per_second.max(0.001);
        let line = ProgressLine {
            phase: self.name,
            label: &self.label.lock().unwrap_or_else(PoisonError::into_inner),
            unit: self.unit,
            done,
            total,
            per_second,
            left: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
        };
        line.plain()
    }
}

/// A bar whose only element is the fitted line.
fn style(phase: &'static str, unit: Unit, label: Arc<Mutex<String>>) -> ProgressStyle {
    let style = ProgressStyle::with_template("{fitted}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key(
        "fitted",
        move |state: &ProgressState, out: &mut dyn Write| {
            let line = ProgressLine {
                phase,
                label: &label.lock().unwrap_or_else(PoisonError::into_inner),
                unit,
                done: state.pos(),
                total: state.len().unwrap_or_default(),
                per_second: state.per_sec(),
                left: state.eta(),
            };
            // A line that fills the last column may wrap.
            out.write_str(&line.fit(columns().saturating_sub(1))).ok();
        },
    )
}

/// The width of the terminal.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL_COLUMNS } else { columns }
}

/// Calls `print` every 30 seconds.
pub async fn print_regularly(print: impl Fn()) {
    loop {
        tokio::time::sleep(LINE_INTERVAL).await;
        print();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pipe_gets_a_line_every_half_minute() {
        let printed = Cell::new(0);
        let print = print_regularly(|| printed.set(printed.get() + 1));
        let seconds = Duration::from_secs(100);
        assert!(tokio::time::timeout(seconds, print).await.is_err());
        assert_eq!(printed.get(), 3);
    }

    #[test]
    fn units_of_an_earlier_run_are_no_speed() {
        let phase = Phase::new("restoring", 20, false);
        phase.skip(10);
        assert_eq!(phase.line(), "restoring: 10/20 entities");
    }

    #[test]
    fn line_of_a_pipe_names_what_is_worked_on() {
        let phase = Phase::new("exporting", 27, false);
        phase.advance(3);
        phase.set_label("exporting acme/Order");
        assert_eq!(phase.line(), "exporting acme/Order: 3/27 exports");
    }
}
