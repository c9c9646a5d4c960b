//! The corpus of the fuzzer, without the fuzzer: all bytes that are kept go through the same
//! functions.

use std::fs;
use std::path::Path;

use crate::support::files_below;

#[path = "../../fuzz/src/lib.rs"]
mod kindpack_fuzz;

use kindpack_fuzz::TARGETS;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

#[test]
fn corpus_holds_for_each_target() {
    for (name, target) in TARGETS {
        let files = files_below(&Path::new(CORPUS).join(name));
        assert!(!files.is_empty(), "{name} has no corpus");
        for path in files.into_values() {
            // A failure names the last file that was tried.
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn each_target_tries_each_corpus() {
    let files = files_below(Path::new(CORPUS)).into_values();
    let all: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
    for (_, target) in TARGETS {
        all.iter().for_each(|bytes| target(bytes));
    }
}

#[test]
fn fuzzer_builds_each_target() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        let source = format!("{}/../fuzz_targets/{name}.rs", CORPUS);
        let source = fs::read_to_string(&source).unwrap();
        assert!(source.contains(&format!("kindpack_fuzz::{name}(bytes)")));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
