//! Which file of a crate uses which, and the circles among them.
//!
//! A path counts toward the file that its longest prefix names, or toward the file that a re-export on the way leads to.
//! A file that names its own child modules is not counted: that is how modules are declared.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Path, UseTree,
    visit::{self, Visit},
};

use crate::{items::is_for_tests, source::SourceFile};

/// Path of a module from the root of its crate.
type ModulePath = Vec<String>;

/// Files that use each other, directly or through others.
pub type Circle = Vec<String>;

/// Returns the circles among the product files of every crate.
pub fn circles(files: &[&SourceFile]) -> Vec<Circle> {
    let mut crates: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for &file in files {
        if let Some((folder, _)) = file.path.split_once("/src/") {
            crates.entry(folder).or_default().push(file);
        }
    }
    crates.values().flat_map(|files| CrateModules::new(files).circles()).collect()
}

struct CrateModules<'f> {
    modules: BTreeMap<ModulePath, Module<'f>>,
}

struct Module<'f> {
    file: &'f str,
    /// Absolute paths that are used here.
    uses: BTreeSet<ModulePath>,
    /// Names that lead elsewhere.
    imports: BTreeMap<String, ModulePath>,
}

impl<'f> CrateModules<'f> {
    fn new(files: &[&'f SourceFile]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files {
            let parsed = syn::parse_file(file.product_text());
            let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.path));
            let path = module_path(&file.path);
            let (uses, imports) = PathCollector::collect(&path, &parsed);
            modules.insert(path, Module { file: &file.path, uses, imports });
        }
        Self { modules }
    }

    /// The module that a path leads to, through up to eight re-exports.
    fn target(&self, path: &[String], redirects: u8) -> Option<&ModulePath> {
        let prefixes = (0..=path.len()).rev().map(|length| &path[..length]);
        let (module, _) = prefixes.filter_map(|prefix| self.modules.get_key_value(prefix)).next()?;
        let next = path.get(module.len()).and_then(|name| self.modules[module].imports.get(name));
        match next {
            Some(import) if redirects > 0 => {
                let whole: ModulePath = import.iter().chain(&path[module.len() + 1..]).cloned().collect();
                self.target(&whole, redirects - 1)
            }
            _ => Some(module),
        }
    }

    /// Which module uses which, leaving out a parent that names its descendants.
    fn edges(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let edges = self.modules.iter().map(|(module, Module { uses, .. })| {
            let targets = uses.iter().filter_map(|path| self.target(path, 8));
            (module, targets.filter(|target| !target.starts_with(module)).collect())
        });
        edges.collect()
    }

    fn circles(&self) -> Vec<Circle> {
        let edges = self.edges();
        let reached: BTreeMap<_, _> =
            edges.keys().map(|module| (*module, reachable(&edges, module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reached {
            let circle: Vec<_> = others.iter().filter(|other| reached[**other].contains(module)).collect();
            if !circle.is_empty() {
                circles.insert(circle.iter().map(|module| self.modules[**module].file.to_owned()).collect());
            }
        }
        circles.into_iter().collect()
    }
}

/// Everything that can be reached from `start`; `start` itself only through others.
fn reachable<'m>(
    edges: &BTreeMap<&'m ModulePath, BTreeSet<&'m ModulePath>>,
    start: &'m ModulePath,
) -> BTreeSet<&'m ModulePath> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        open.extend(edges[module].iter().filter(|target| reached.insert(**target)));
    }
    reached
}

/// `libs/log/src/kafka/writer.rs` is `kafka::writer`; a crate root is empty.
fn module_path(path: &str) -> ModulePath {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs");
    if matches!(inside, "lib" | "main") {
        return Vec::new();
    }
    inside.split('/').map(str::to_owned).collect()
}

/// Collects the paths into the own crate that a file names.
struct PathCollector {
    module: ModulePath,
    children: BTreeSet<String>,
    uses: BTreeSet<ModulePath>,
    imports: BTreeMap<String, ModulePath>,
}

impl PathCollector {
    fn collect(module: &ModulePath, file: &File) -> (BTreeSet<ModulePath>, BTreeMap<String, ModulePath>) {
        let child = |item: &Item| match item {
            Item::Mod(child) => Some(child.ident.to_string()),
            _ => None,
        };
        let children = file.items.iter().filter_map(child).collect();
        let mut collector =
            Self { module: module.clone(), children, uses: BTreeSet::new(), imports: BTreeMap::new() };
        collector.visit_file(file);
        (collector.uses, collector.imports)
    }

    /// The path from the root of the crate; `None` if it leads into another crate.
    fn absolute(&self, segments: &[String]) -> Option<ModulePath> {
        let mut base = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            first if self.children.contains(first) => {
                return Some(self.module.iter().chain(segments).cloned().collect());
            }
            first => {
                let import = self.imports.get(first)?;
                return Some(import.iter().chain(&segments[1..]).cloned().collect());
            }
        };
        let mut rest = &segments[1..];
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop()?;
            rest = &rest[1..];
        }
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let extended = |ident: &syn::Ident| {
            let ident = ident.to_string();
            let is_self = ident == "self" && !prefix.is_empty();
            prefix.iter().cloned().chain((!is_self).then_some(ident)).collect::<Vec<_>>()
        };
        match tree {
            UseTree::Path(path) => self.add_tree(&extended(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add_tree(prefix, item)),
            UseTree::Name(name) => {
                let path = extended(&name.ident);
                let local = path.last().cloned().unwrap_or_default();
                self.add_import(&path, local);
            }
            UseTree::Rename(rename) => self.add_import(&extended(&rename.ident), rename.rename.to_string()),
            UseTree::Glob(_) => self.uses.extend(self.absolute(prefix)),
        }
    }

    fn add_import(&mut self, path: &[String], local: String) {
        if let Some(absolute) = self.absolute(path) {
            self.uses.insert(absolute.clone());
            self.imports.insert(local, absolute);
        }
    }
}

impl<'ast> Visit<'ast> for PathCollector {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.uses.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // `super` means something else inside an inline module, and there are next to
        // none.
        if item.content.is_none() && !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Vec<SourceFile> {
        let file = |(path, text): &(&str, &str)| SourceFile {
            path: format!("a/src/{path}"),
            text: (*text).to_owned(),
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn a_circle_is_found() {
        let files = files(&[
            ("lib.rs", "mod b;\nmod c;\npub use c::C;"),
            ("b.rs", "use crate::C;\npub struct B;"),
            ("c.rs", "pub struct C(super::b::B);"),
        ]);
        assert_eq!(circles(&files.iter().collect::<Vec<_>>()), [["a/src/b.rs", "a/src/c.rs"]]);
    }

    #[test]
    fn a_parent_and_its_child_are_none() {
        let files = files(&[
            ("lib.rs", "mod b;"),
            ("b.rs", "mod d;\npub use d::D;\npub struct B;\nfn b() { d::d() }"),
            ("b/d.rs", "use super::B;\npub struct D;\npub fn d() {}"),
        ]);
        assert!(circles(&files.iter().collect::<Vec<_>>()).is_empty());
    }
}
