//! Packs the exports below a folder into an archive, and verifies it.
//!
//! `cargo run --example pack_folder -- fixtures/managed /tmp/backups`

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::sync::Arc;

use kindpack::pack::{ArchiveName, PackRequest, pack};
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store};
use kindpack::verify::{VerifyScope, verify};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(exports), Some(backups)) = (args.next(), args.next()) else {
        return Err("usage: pack_folder EXPORTS BACKUPS".into());
    };
    let source: Arc<dyn Store> = Arc::new(DirStore::new(exports));
    let dest: Arc<dyn Store> = Arc::new(DirStore::new(backups));
    let workers = Workers::new(2, 256 << 20);
    let request = PackRequest::default();
    let chosen = ArchiveName::Automatic;
    let packed = pack(&source, &dest, chosen, &request, &workers, &NoProgress).await?;
    println!(
        "{}: {} kinds, {} entities",
        packed.name, packed.kinds, packed.entities
    );

    let object = dest.stat(&packed.name).await?;
    let report = verify(
        dest,
        object,
        packed.name,
        VerifyScope::Full,
        &workers,
        &NoProgress,
    )
    .await?;
    for problem in &report.problems {
        println!("{problem}");
    }
    println!("{} problems", report.problems.len());
    Ok(())
}
