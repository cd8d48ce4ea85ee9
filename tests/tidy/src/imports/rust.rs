//! Imports between the files of a Rust crate.
//!
//! A path counts for the file that it names. If that file re-exports the name, the path also counts for the file that the
//! re-export leads to. Two things do not count:
//!
//! - A path through a file that only declares and re-exports modules is no import of that file, because such a file
//!   imports nothing itself.
//! - The declaration or the re-export of a module is no import of it. If the code of the file uses a name that the file
//!   re-exports, that is an import.
//!
//! A module and the modules inside it may use each other. Therefore there are two answers, each without one direction of
//! their imports, and a circle is a circle in one of them. The root of a crate is a file like any other.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, Expr, File, Item, ItemMod, ItemUse, Macro, Path, Token, UseTree, Visibility,
    punctuated::Punctuated,
    visit::{self, Visit},
};

use crate::{circles::Imports, source::SourceFile};

/// Path of a module from the root of its crate.
type ModulePath = Vec<String>;

/// Returns the imports among the files of each crate: first without the imports of outer modules by the
/// modules inside them, then without the imports of inner modules by the module around them.
pub fn imports(files: &[SourceFile]) -> [Imports; 2] {
    let mut crates: BTreeMap<&str, Crate> = BTreeMap::new();
    for file in files {
        if let Some((folder, inside)) = file.path.split_once("/src/") {
            let path = module_path(inside);
            let module = Module::read(file, path.clone());
            crates.entry(folder).or_default().modules.insert(path, module);
        }
    }
    let mut inward = Imports::default();
    let mut outward = Imports::default();
    for modules in crates.values() {
        for (module, imported) in modules.imports() {
            let file = &modules.modules[module].file;
            let imported_file = &modules.modules[imported].file;
            if !is_inside(module, imported) {
                inward.add(file, imported_file);
            }
            if !is_inside(imported, module) {
                outward.add(file, imported_file);
            }
        }
    }
    [inward, outward]
}

#[derive(Default)]
struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    /// Pairs of modules in which the first imports the second.
    fn imports(&self) -> BTreeSet<(&ModulePath, &ModulePath)> {
        let mut imports = BTreeSet::new();
        for (path, module) in &self.modules {
            let mut targets = BTreeSet::new();
            for used in &module.uses {
                self.add_targets(used, &mut targets);
            }
            imports.extend(targets.into_iter().map(|target| (path, target)));
        }
        imports
    }

    /// Adds the modules that a path counts for.
    fn add_targets<'m>(&'m self, used: &[String], targets: &mut BTreeSet<&'m ModulePath>) {
        let mut prefixes = (0..=used.len()).rev().map(|length| &used[..length]);
        let found = prefixes.find_map(|prefix| self.modules.get_key_value(prefix));
        let Some((path, module)) = found else { return };
        if !module.only_declares {
            targets.insert(path);
        }
        let Some(name) = used.get(path.len()) else { return };
        if let Some(mut elsewhere) = self.defined_elsewhere(module, name) {
            elsewhere.extend_from_slice(&used[path.len() + 1..]);
            self.add_targets(&elsewhere, targets);
        }
    }

    /// The path that a name of a module leads to, if it is defined in another module.
    fn defined_elsewhere(&self, module: &Module, name: &String) -> Option<ModulePath> {
        if let Some(path) = module.imported.get(name) {
            return Some(path.clone());
        }
        if module.defined.contains(name) {
            return None;
        }
        let has_name = |glob: &&ModulePath| {
            self.modules.get(*glob).is_some_and(|source| {
                source.defined.contains(name) || self.defined_elsewhere(source, name).is_some()
            })
        };
        let source = module.globs.iter().find(has_name)?;
        Some(source.iter().chain([name]).cloned().collect())
    }
}

/// Whether a module is inside another one that is not the root of the crate.
fn is_inside(module: &ModulePath, other: &ModulePath) -> bool {
    !other.is_empty() && module.starts_with(other)
}

/// `libs/log/src/kafka/writer.rs` is `kafka::writer`; a crate root is empty.
fn module_path(inside: &str) -> ModulePath {
    let inside = inside.trim_end_matches(".rs");
    if matches!(inside, "lib" | "main") {
        return Vec::new();
    }
    inside.split('/').map(str::to_owned).collect()
}

/// A file, and the names and paths in it. All paths start at the root of the crate.
#[derive(Default)]
struct Module {
    file: String,
    path: ModulePath,
    only_declares: bool,
    children: BTreeSet<String>,
    /// Names of the items that are defined here.
    defined: BTreeSet<String>,
    /// Imported and re-exported names, with the paths that they lead to.
    imported: BTreeMap<String, ModulePath>,
    /// Names that this file re-exports.
    re_exports: BTreeSet<String>,
    /// Modules from which this file re-exports every name.
    globs: Vec<ModulePath>,
    /// Paths that the code uses.
    uses: BTreeSet<ModulePath>,
}

impl Module {
    fn read(file: &SourceFile, path: ModulePath) -> Self {
        let parsed = syn::parse_file(file.product_text());
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.path));
        let mut module = Self {
            file: file.path.clone(),
            path,
            only_declares: parsed.items.iter().all(only_declares),
            ..Self::default()
        };
        module.add_items(&parsed);
        module.visit_file(&parsed);
        module
    }

    fn add_items(&mut self, file: &File) {
        for item in &file.items {
            match item {
                Item::Mod(item) => {
                    self.children.insert(item.ident.to_string());
                }
                Item::Const(item) => self.define(&item.ident),
                Item::Enum(item) => self.define(&item.ident),
                Item::Fn(item) => self.define(&item.sig.ident),
                Item::Static(item) => self.define(&item.ident),
                Item::Struct(item) => self.define(&item.ident),
                Item::Trait(item) => self.define(&item.ident),
                Item::Type(item) => self.define(&item.ident),
                _ => {}
            }
        }
    }

    fn define(&mut self, name: &syn::Ident) {
        self.defined.insert(name.to_string());
    }

    /// The path from the root of the crate; `None` if it leads into another crate.
    fn absolute(&self, segments: &[String]) -> Option<ModulePath> {
        let mut base = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => self.path.clone(),
            "super" => self.path[..self.path.len().checked_sub(1)?].to_vec(),
            first if self.children.contains(first) => {
                return Some(self.path.iter().chain(segments).cloned().collect());
            }
            first => {
                let import = self.imported.get(first)?;
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

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree, is_re_export: bool) {
        let extended = |ident: &syn::Ident| {
            let ident = ident.to_string();
            let is_self = ident == "self" && !prefix.is_empty();
            prefix.iter().cloned().chain((!is_self).then_some(ident)).collect::<Vec<_>>()
        };
        match tree {
            UseTree::Path(path) => self.add_tree(&extended(&path.ident), &path.tree, is_re_export),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.add_tree(prefix, item, is_re_export));
            }
            UseTree::Name(name) => {
                let path = extended(&name.ident);
                let local = path.last().cloned().unwrap_or_default();
                self.add_import(&path, local, is_re_export);
            }
            UseTree::Rename(rename) => {
                self.add_import(&extended(&rename.ident), rename.rename.to_string(), is_re_export);
            }
            UseTree::Glob(_) if is_re_export => self.globs.extend(self.absolute(prefix)),
            UseTree::Glob(_) => self.uses.extend(self.absolute(prefix)),
        }
    }

    fn add_import(&mut self, path: &[String], local: String, is_re_export: bool) {
        let Some(absolute) = self.absolute(path) else { return };
        if is_re_export {
            self.re_exports.insert(local.clone());
        } else {
            self.uses.insert(absolute.clone());
        }
        self.imported.insert(local, absolute);
    }
}

fn only_declares(item: &Item) -> bool {
    match item {
        Item::Mod(item) => item.content.is_none(),
        Item::Use(item) => is_re_export(item),
        _ => false,
    }
}

fn is_re_export(item: &ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// Whether an item exists only in test builds.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
    })
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&[], &item.tree, is_re_export(item));
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 || self.re_exports.contains(&segments[0]) {
            self.uses.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }

    /// Reads the arguments of macros that take expressions, as most do.
    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        let parsed = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
        for argument in parsed.iter().flatten() {
            Visit::visit_expr(self, argument);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // `super` means something else inside an inline module, and there are next to none.
        if item.content.is_none() && !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
        let source = |(path, text): &(&str, &str)| SourceFile {
            path: format!("a/src/{path}"),
            text: (*text).to_owned(),
        };
        let files: Vec<SourceFile> = files.iter().map(source).collect();
        let circles: Vec<_> = imports(&files).iter().flat_map(Imports::circles).collect();
        let found: BTreeSet<Vec<&str>> = circles
            .iter()
            .map(|circle| circle.files.iter().map(|file| file.trim_start_matches("a/src/")).collect())
            .collect();
        assert_eq!(found, expected.iter().map(|files| files.to_vec()).collect());
    }

    #[test]
    fn re_exports_are_followed() {
        let b = ("b.rs", "use crate::C;\npub struct B;");
        let c = ("c.rs", "pub struct C(super::b::B);");
        check(&[("lib.rs", "mod b;\nmod c;\npub use c::C;"), b, c], &[&["b.rs", "c.rs"]]);
        check(&[("lib.rs", "mod b;\nmod c;\npub use c::*;"), b, c], &[&["b.rs", "c.rs"]]);
    }

    #[test]
    fn a_file_with_code_counts_for_what_it_re_exports() {
        let b = ("b.rs", "use crate::C;\npub struct B;");
        let c = ("c.rs", "pub struct C;");
        let root = "mod b;\nmod c;\npub use b::B;\npub use c::C;\n";
        check(&[("lib.rs", root), b, c], &[]);
        check(&[("lib.rs", &format!("{root}pub trait D {{ fn d() -> B; }}")), b, c], &[&["b.rs", "lib.rs"]]);
    }

    #[test]
    fn a_module_and_the_modules_inside_it_use_each_other() {
        let root = ("lib.rs", "mod b;\nmod c;");
        let b = ("b.rs", "mod d;\npub struct B;\nfn b() { d::d() }");
        check(&[root, b, ("b/d.rs", "use super::B;\npub fn d() {}")], &[]);
        let d = ("b/d.rs", "use crate::c::C;\npub fn d() {}");
        check(&[root, b, d, ("c.rs", "pub struct C(crate::b::B);")], &[&["b.rs", "b/d.rs", "c.rs"]]);
    }
}
