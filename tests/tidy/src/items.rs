//! The items of Rust files: types, functions, traits and implementations, excluding those of
//! tests.

use proc_macro2::Span;
use syn::{
    Attribute, Fields, ImplItem, Item, ItemMod, Signature, TraitItem, Type, Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::source::SourceFile;

/// A struct, enum or union.
#[derive(Debug)]
pub struct TypeItem {
    pub name: String,
    /// Fields of a struct; none of an enum.
    pub fields: usize,
}

/// A function or method with a body.
#[derive(Debug)]
pub struct FunctionItem {
    pub name: String,
    /// Lines from the signature to the closing brace.
    pub lines: usize,
    pub line: usize,
}

/// The items of one file.
#[derive(Debug, Default)]
pub struct Items {
    pub types: Vec<TypeItem>,
    pub functions: Vec<FunctionItem>,
    /// Names of the types that have inherent `impl` blocks here.
    pub inherent_impls: Vec<String>,
    /// Name and number of methods of each trait.
    pub traits: Vec<(String, usize)>,
    pub public: usize,
    pub crate_public: usize,
}

/// Reads the items of a file. Panics if it is no valid Rust.
pub fn items(file: &SourceFile) -> Items {
    let parsed = syn::parse_file(file.product_text());
    let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut items = Items::default();
    items.visit_file(&parsed);
    items
}

/// Whether an item exists only in test builds.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
    })
}

impl Items {
    fn count_visibility(&mut self, visibility: &Visibility) {
        match visibility {
            Visibility::Public(_) => self.public += 1,
            Visibility::Restricted(_) => self.crate_public += 1,
            Visibility::Inherited => {}
        }
    }

    fn add_function(&mut self, signature: &Signature, body: Span) {
        let (start, end) = (signature.span().start().line, body.end().line);
        let name = signature.ident.to_string();
        self.functions.push(FunctionItem { name, lines: end + 1 - start, line: start });
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Struct(item) => {
                self.count_visibility(&item.vis);
                let fields = if let Fields::Unit = item.fields { 0 } else { item.fields.len() };
                self.types.push(TypeItem { name: item.ident.to_string(), fields });
            }
            Item::Enum(item) => {
                self.count_visibility(&item.vis);
                self.types.push(TypeItem { name: item.ident.to_string(), fields: 0 });
            }
            Item::Trait(item) => {
                self.count_visibility(&item.vis);
                let methods = item.items.iter().filter(|item| matches!(item, TraitItem::Fn(_))).count();
                self.traits.push((item.ident.to_string(), methods));
            }
            Item::Fn(item) if is_for_tests(&item.attrs) => return,
            Item::Fn(item) => {
                self.count_visibility(&item.vis);
                self.add_function(&item.sig, item.block.span());
            }
            Item::Impl(item) if is_for_tests(&item.attrs) => return,
            Item::Impl(item) => {
                if let (None, Type::Path(path)) = (&item.trait_, &*item.self_ty) {
                    self.inherent_impls.extend(path.path.segments.last().map(|last| last.ident.to_string()));
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if let ImplItem::Fn(item) = item {
            if is_for_tests(&item.attrs) {
                return;
            }
            self.count_visibility(&item.vis);
            self.add_function(&item.sig, item.block.span());
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_without_tests() {
        let text = "pub struct A { a: u8, b: u8 }\nimpl A {\n    fn a(&self) {\n    }\n}\npub(crate) trait B { fn b(); }\n\
            impl B for A { fn b() {} }\n#[cfg(test)]\nmod tests {\n    struct C;\n}\n";
        let items = items(&SourceFile { path: "a.rs".to_owned(), text: text.to_owned() });
        let types: Vec<_> = items.types.iter().map(|item| (item.name.as_str(), item.fields)).collect();
        let functions: Vec<_> = items.functions.iter().map(|item| (item.name.as_str(), item.lines)).collect();
        assert_eq!(types, [("A", 2)]);
        assert_eq!(functions, [("a", 2), ("b", 1)]);
        assert_eq!((items.inherent_impls.as_slice(), items.public), (&["A".to_owned()][..], 1));
        assert_eq!((items.traits.as_slice(), items.crate_public), (&[("B".to_owned(), 1)][..], 1));
    }
}
