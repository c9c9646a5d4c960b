//! The layers of `src/`: imports point downward, and no file needs another one that needs it.
//!
//! An import is any path that begins with `crate`, `super` or `self`, outside tests. What a module
//! re-exports belongs to the file that defines it, and a module may call its own submodules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// The folders of `src/`, from the bottom to the top. A folder imports from lower layers only.
const LAYERS: [&[&str]; 10] = [
    &["model"],
    &["runtime", "progress"],
    &["google", "signature", "encryption"],
    &["entity"],
    &["transform", "export", "datastore", "store", "notify"],
    &["plan", "archive", "targets"],
    &["pack", "verify", "extract", "restore"],
    &["backup", "prune", "report"],
    &["config", "fuzzing"],
    &["cli"],
];

/// Files whose imports have no layer: the faces of the two crates.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

type ModulePath = Vec<String>;

/// A file of `src/` with what it names.
#[derive(Default)]
struct SourceFile {
    /// Paths from the root of the crate.
    paths: Vec<ModulePath>,
    /// Names that `use` brings in, and the paths that they stand for.
    aliases: BTreeMap<String, ModulePath>,
    /// Paths that are re-exported.
    exports: Vec<ModulePath>,
}

/// Collects the paths of one file.
struct PathCollector {
    module: ModulePath,
    file: SourceFile,
}

impl PathCollector {
    /// A path from the root of the crate, where it stays in the crate.
    fn resolve(&self, path: &[String]) -> Option<ModulePath> {
        let mut base = match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()?),
                _ => break,
            }
            rest = others;
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &ModulePath, is_export: bool) {
        let joined = |name: &syn::Ident| [prefix.as_slice(), &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &joined(&path.ident), is_export),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix, is_export);
                }
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.import(prefix, prefix.last().cloned(), is_export);
            }
            syn::UseTree::Name(name) => {
                self.import(
                    &joined(&name.ident),
                    Some(name.ident.to_string()),
                    is_export,
                );
            }
            syn::UseTree::Rename(rename) => {
                let path = joined(&rename.ident);
                self.import(&path, Some(rename.rename.to_string()), is_export);
            }
            syn::UseTree::Glob(_) => self.import(prefix, None, is_export),
        }
    }

    fn import(&mut self, path: &ModulePath, name: Option<String>, is_export: bool) {
        // `pub use child::Name` needs no `self`.
        let path = if is_export && !["crate", "self", "super"].contains(&path[0].as_str()) {
            [self.module.as_slice(), path].concat()
        } else if let Some(path) = self.resolve(path) {
            path
        } else {
            return;
        };
        if let Some(name) = name {
            self.file.aliases.insert(name, path.clone());
        }
        if is_export {
            self.file.exports.push(path);
        } else {
            self.file.paths.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for PathCollector {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_export = !matches!(item.vis, syn::Visibility::Inherited);
        if !is_for_tests(&item.attrs) {
            self.use_tree(&item.tree, &Vec::new(), is_export);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        if names.len() > 1
            && let Some(path) = self.resolve(&names)
        {
            self.file.paths.push(path);
        }
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|condition| condition == "test")
    })
}

/// The files of `src/` by their modules, and their names.
struct Crate {
    files: BTreeMap<ModulePath, SourceFile>,
    names: BTreeMap<ModulePath, String>,
}

impl Crate {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut tests = BTreeSet::new();
        let mut krate = Crate {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        for path in crate::support::files_below(&src).into_values() {
            let name = path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if !name.ends_with(".rs") || ROOTS.contains(&&*name) {
                continue;
            }
            let module = module_of(&name);
            let syntax = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            for item in &syntax.items {
                if let syn::Item::Mod(item) = item
                    && is_for_tests(&item.attrs)
                {
                    tests.insert([module.as_slice(), &[item.ident.to_string()]].concat());
                }
            }
            let mut collector = PathCollector {
                module: module.clone(),
                file: SourceFile::default(),
            };
            collector.visit_file(&syntax);
            krate.files.insert(module.clone(), collector.file);
            krate.names.insert(module, name);
        }
        let is_test = |module: &ModulePath| tests.iter().any(|test| module.starts_with(test));
        krate.files.retain(|module, _| !is_test(module));
        krate
    }

    /// The file that a path leads to, through re-exports.
    fn resolve(&self, path: &[String]) -> Option<&ModulePath> {
        let depth = (1..=path.len())
            .rev()
            .find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, file) = self.files.get_key_value(&path[..depth])?;
        let Some(name) = path.get(depth) else {
            return Some(module);
        };
        // `use super::name;` beside a module of that name stands for itself.
        match file.aliases.get(name) {
            Some(target) if !target.starts_with(&path[..=depth]) => {
                self.resolve(&[target.as_slice(), &path[depth + 1..]].concat())
            }
            _ => Some(module),
        }
    }

    /// Which file imports from which other one.
    fn imports(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let targets = |module, file: &SourceFile| {
            file.paths
                .iter()
                .filter_map(|path| self.resolve(path))
                .filter(|target| *target != module)
                .collect()
        };
        let files = self.files.iter();
        files
            .map(|(module, file)| (module, targets(module, file)))
            .collect()
    }

    /// What a file re-exports, as an import.
    fn exports(&self) -> impl Iterator<Item = (&ModulePath, &ModulePath)> {
        self.files.iter().flat_map(move |(module, file)| {
            let exports = file.exports.iter();
            exports.filter_map(move |path| Some((module, self.resolve(path)?)))
        })
    }
}

fn module_of(name: &str) -> ModulePath {
    let path = PathBuf::from(name.trim_end_matches(".rs").trim_end_matches("/mod"));
    let parts = path.iter();
    parts
        .map(|part| part.to_str().unwrap().to_owned())
        .collect()
}

fn layer(module: &[String]) -> usize {
    let holds = |layer: &&[&str]| layer.contains(&module[0].as_str());
    LAYERS
        .iter()
        .position(holds)
        .unwrap_or_else(|| panic!("src/{} has no layer: give it one in LAYERS", module[0]))
}

/// Whether `to` is reached from `from` by any number of imports.
fn reaches<'a>(
    imports: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
    from: &'a ModulePath,
    to: &ModulePath,
) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        let next = imports.get(module).into_iter().flatten();
        open.extend(next.copied().filter(|next| seen.insert(next)));
    }
    false
}

#[test]
fn imports_point_downward_without_circles() {
    let krate = Crate::read();
    assert!(krate.files.len() > 100, "{} files", krate.files.len());
    let name = |module: &ModulePath| krate.names[module].as_str();
    let is_upward =
        |from: &ModulePath, to: &ModulePath| from[0] != to[0] && layer(to) >= layer(from);

    let imports = krate.imports();
    let all = imports
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (*from, *to)))
        .chain(krate.exports());
    let mut wrong = BTreeSet::new();
    for (from, to) in all {
        let reason = if is_upward(from, to) {
            "which is not in a lower layer"
        } else if imports[from].contains(to) && reaches(&imports, to, from) {
            "which needs the importing file itself"
        } else {
            continue;
        };
        wrong.insert(format!("{} imports {}, {reason}", name(from), name(to)));
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn architecture_shows_these_layers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).unwrap();
    for (index, layer) in LAYERS.iter().enumerate() {
        let modules: Vec<String> = layer.iter().map(|module| format!("`{module}`")).collect();
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", index + 1)));
        let row = row.unwrap_or_else(|| panic!("no row for layer {}", index + 1));
        let shown: BTreeSet<&str> = row[5..].trim_matches(['|', ' ']).split(' ').collect();
        assert_eq!(shown, modules.iter().map(String::as_str).collect());
    }
}
