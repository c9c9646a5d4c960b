//! `kindpack cat ARCHIVE SELECTOR`: entities as REST JSON, one a line.

use std::io::{self, Write as _};

use futures_util::{StreamExt as _, pin_mut};
use serde_json::json;

use crate::archive::entities;
use crate::cli::args::ArchiveArg;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::open_archive;
use crate::entity::rewrite::KeyMapping;
use crate::model::{EntryInfo, Selector};
use crate::runtime::workers::Workers;
use crate::transform::{Encoded, Encoder, Encoding};

pub async fn run(context: &Context, arg: &ArchiveArg, selector: Selector) -> CommandResult {
    if !arg.archive.is_folder_name() {
        open_archive::reject_swapped("cat", &arg.archive, &selector.to_string())?;
    }
    let archive = open_archive::open(context, arg).await?;
    let selectors = [selector];
    let kinds = archive.choose(&selectors)?;
    let mut count = 0;
    archive.read_ahead(kinds.iter().map(|kind| kind.pair()), &context.workers);
    for kind in kinds {
        let outputs: Vec<EntryInfo> = kind.outputs().cloned().collect();
        let encoder = Encoder::new(Encoding::JsonLine, KeyMapping::identity(), kind.pair());
        let pieces = entities::read(&archive, &outputs, encoder, 0, &context.workers);
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            count += piece.len();
            let as_events = context.ui.is_json();
            // Beside the async threads: whoever reads slowly must not keep a signal from being
            // heard.
            let printed = Workers::run_blocking(move || print(&piece, as_events)).await?;
            match printed {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::Done);
                }
                printed => printed.map_err(|error| Failure::io("standard output", &error))?,
            }
        }
    }
    context.ui.done(json!({"entities": count}));
    Ok(ExitCode::Done)
}

fn print(piece: &Encoded, as_events: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !as_events {
        out.write_all(piece.bytes())?;
        return out.flush();
    }
    for (line, _) in piece.iter() {
        out.write_all(b"{\"event\":\"entity\",\"entity\":")?;
        out.write_all(line.trim_ascii_end())?;
        out.write_all(b"}\n")?;
    }
    out.flush()
}
