//! Links between documents.

use super::markdown::Document;
use super::{assert_none, documents, join, root};

/// The path of a link in the repository, and its anchor.
fn resolve<'a>(document: &Document, link: &'a str) -> (String, &'a str) {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    if path.is_empty() {
        return (document.name.clone(), anchor);
    }
    let folder = document
        .name
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    (without_parents(&join(folder, path)), anchor)
}

/// A path without `..`.
fn without_parents(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What is wrong with a link.
fn problem(document: &Document, link: &str) -> Option<String> {
    let (path, anchor) = resolve(document, link);
    if !root().join(&path).exists() {
        return Some(format!("{}: {link}: no such file", document.name));
    }
    let is_known = || {
        Document::read(&path)
            .anchors()
            .iter()
            .any(|known| known == anchor)
    };
    let wrong = !anchor.is_empty() && !is_known();
    wrong.then(|| format!("{}: {link}: no such heading", document.name))
}

fn is_relative(link: &str) -> bool {
    !link.contains("://") && !link.starts_with("mailto:")
}

#[test]
fn every_link_leads_to_a_heading() {
    let mut problems = Vec::new();
    for document in documents() {
        let links = document.links.iter().filter(|link| is_relative(link));
        problems.extend(links.filter_map(|link| problem(&document, link)));
    }
    assert_none(&problems);
}

/// The documents that README and the guides lead to.
#[test]
fn every_document_is_linked() {
    let documents = documents();
    let links = |document: &Document| -> Vec<String> {
        let links = document.links.iter().filter(|link| is_relative(link));
        links.map(|link| resolve(document, link).0).collect()
    };
    let linked: Vec<String> = documents.iter().flat_map(links).collect();
    let lonely = |name: &String| *name != "README.md" && !linked.contains(name);
    let names = documents.into_iter().map(|document| document.name);
    assert_none(&names.filter(lonely).collect::<Vec<_>>());
}
