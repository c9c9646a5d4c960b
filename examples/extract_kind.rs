//! Lists what an archive holds, and writes the exports of one kind into a folder.
//!
//! `cargo run --example extract_kind -- backups set.zip acme/Order restored`

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::sync::Arc;

use kindpack::archive::Archive;
use kindpack::extract::{ExtractFormat, extract};
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, name, selector, dest] = args.as_slice() else {
        return Err("usage: extract_kind FOLDER ARCHIVE SELECTOR DEST".into());
    };
    let store: Arc<dyn Store> = Arc::new(DirStore::new(folder));
    let object = store.stat(name).await?;
    let archive = Arc::new(Archive::open(store, object, name.clone()).await?);
    for kind in &archive.manifest().kinds {
        println!(
            "{}/{}: {} entities",
            kind.namespace, kind.kind, kind.entities
        );
    }

    let only = [selector.parse()?];
    let workers = Workers::new(2, 256 << 20);
    let dest = DirStore::new(dest);
    let extracted = extract(
        &archive,
        &dest,
        &only,
        ExtractFormat::Original,
        &workers,
        &NoProgress,
    )
    .await?;
    println!("wrote {} objects", extracted.objects);
    Ok(())
}
