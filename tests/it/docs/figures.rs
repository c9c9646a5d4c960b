//! Figures in the README that other files decide.

use std::fs;
use std::path::Path;

use super::markdown::Document;
use super::{assert_none, root};

/// The zips below a folder.
fn zips(folder: &Path) -> usize {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let count = |path: &Path| match path.is_dir() {
        true => zips(path),
        false => usize::from(path.extension().is_some_and(|extension| extension == "zip")),
    };
    entries.map(|path| count(&path)).sum()
}

#[test]
fn readme_has_the_figures_of_other_files() {
    let text = Document::read("README.md").text;
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let shown = [
        format!("Version {version} · Rust {rust} or later"),
        format!("You need Rust {rust} or later"),
        format!(
            "{} zips of other projects",
            zips(&root().join("fixtures/zip"))
        ),
    ];
    let missing = shown.into_iter().filter(|figure| !text.contains(figure));
    assert_none(&missing.collect::<Vec<_>>());
}
