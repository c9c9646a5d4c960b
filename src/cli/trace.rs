//! What the library reports through `tracing`: long waits always, requests with `-vv`.

use std::io;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::output::Ui;

/// Prints this crate's events from now on, up to a level. Those of other crates may hold addresses
/// and tokens.
pub fn print_events(ui: &Arc<Ui>, level: LevelFilter) {
    let events = tracing_subscriber::fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(EventPrinter(ui.clone()))
        .with_filter(Targets::new().with_target("kindpack", level));
    // Only one subscriber is ever set.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(events)).ok();
}

/// Makes the writer of each event.
struct EventPrinter(Arc<Ui>);

impl MakeWriter<'_> for EventPrinter {
    type Writer = EventWriter;

    fn make_writer(&self) -> EventWriter {
        EventWriter {
            ui: self.0.clone(),
            is_wait: false,
        }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> EventWriter {
        EventWriter {
            is_wait: *metadata.level() == Level::WARN,
            ..self.make_writer()
        }
    }
}

/// Prints each event above the progress bar.
struct EventWriter {
    ui: Arc<Ui>,
    is_wait: bool,
}

impl io::Write for EventWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event);
        if self.is_wait {
            self.ui.note_wait(line.trim_end());
        } else {
            self.ui.above_bar(line.trim_end());
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
