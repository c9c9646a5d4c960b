//! What the library reports through `tracing`, printed on standard error with `-vv`.

use std::io;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use super::output::Ui;

/// Prints this crate's events from now on. Those of other crates may hold addresses and tokens.
pub fn print_events(ui: &Arc<Ui>) {
    let ui = ui.clone();
    let events = tracing_subscriber::fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || EventWriter(ui.clone()))
        .with_filter(Targets::new().with_target("kindpack", LevelFilter::DEBUG));
    // Only one subscriber is ever set.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(events)).ok();
}

/// Prints each event above the progress bar.
struct EventWriter(Arc<Ui>);

impl io::Write for EventWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.above_bar(String::from_utf8_lossy(event).trim_end());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
