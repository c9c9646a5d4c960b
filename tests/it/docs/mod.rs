//! README and the guides: every link leads somewhere, every name is one that exists, every command
//! line is understood, and those that can be run print what is shown.

mod archive_format;
mod cli_reference;
mod command_line;
mod figures;
mod links;
mod markdown;
mod names;
mod recording;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};

use markdown::Document;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names of all documents, from the root of the repository.
fn document_names() -> Vec<String> {
    let mut names: Vec<String> = markdown_in("").collect();
    names.extend(markdown_in("docs"));
    names.push("fixtures/README.md".to_owned());
    names.sort();
    names
}

/// The Markdown files directly in a folder of the repository.
fn markdown_in(folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".md"));
    names.map(move |name| join(folder, &name))
}

fn join(folder: &str, name: &str) -> String {
    let path: PathBuf = Path::new(folder).join(name);
    path.to_str().unwrap().to_owned()
}

/// All documents.
fn documents() -> Vec<Document> {
    let names = document_names();
    names.iter().map(|name| Document::read(name)).collect()
}

/// What speaks of the program to its users. The changelog names what older versions had.
fn user_documents() -> Vec<Document> {
    let mut documents = documents();
    documents.retain(|document| document.name != "CHANGELOG.md");
    documents
}

/// Fails with all problems, one a line.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
