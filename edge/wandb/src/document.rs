//! Checks a document of a client before it is executed: that the schema has its fields. The executor itself would
//! leave out unknown fields, and a client would take their absence for an empty value.

use std::collections::HashMap;

use async_graphql::Name;
use async_graphql::Positioned;
use async_graphql::parser::types::{
    ExecutableDocument, Field, FragmentDefinition, OperationType, Selection, SelectionSet, TypeDefinition,
    TypeKind,
};

/// Fragments in each other. Cycles are refused by the executor, which runs after this check.
const MAX_NESTING: usize = 32;

/// The longest document. The longest one of a client has about 4,000 bytes.
const MAX_BYTES: usize = 64 << 10;

/// Checks a text before it is parsed: the parser calls itself for each bracket, so their nesting is bounded here.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("The document has more than {MAX_BYTES} bytes: send values as variables."));
    }
    let mut depth = 0_usize;
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'#' => after_comment(after),
            b'"' => after_text(rest).ok_or("A text in the document has no end.")?,
            _ => after,
        };
        match first {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err("Query is nested too deep.".to_owned());
        }
    }
    Ok(())
}

/// What follows the line of a comment.
fn after_comment(comment: &[u8]) -> &[u8] {
    let end = comment.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(comment.len());
    &comment[end..]
}

/// What follows a text, which begins with its quotes; `None` if it has no end.
fn after_text(text: &[u8]) -> Option<&[u8]> {
    const BLOCK: &[u8] = b"\"\"\"";
    const QUOTED_BLOCK: &[u8] = b"\\\"\"\"";
    if let Some(mut block) = text.strip_prefix(BLOCK) {
        loop {
            if let Some(rest) = block.strip_prefix(BLOCK) {
                return Some(rest);
            }
            let length = if block.starts_with(QUOTED_BLOCK) { QUOTED_BLOCK.len() } else { 1 };
            block = block.get(length..)?;
        }
    }
    let mut rest = text.get(1..)?;
    loop {
        match rest.first()? {
            b'"' => return rest.get(1..),
            b'\\' => rest = rest.get(2..)?,
            b'\n' | b'\r' => return None,
            _ => rest = rest.get(1..)?,
        }
    }
}

/// Brackets in each other. The deepest document of a client has twelve.
const MAX_BRACKETS: usize = 64;

/// The types of the fields of each object, by the names of the object and the field. The name of a type is that without
/// lists.
#[derive(Debug)]
pub(crate) struct FieldTypes(HashMap<String, HashMap<String, String>>);

impl FieldTypes {
    pub(crate) fn new(definitions: &[TypeDefinition]) -> Self {
        let of_type = |definition: &TypeDefinition| {
            let fields = match &definition.kind {
                TypeKind::Object(object) => &object.fields,
                TypeKind::Interface(interface) => &interface.fields,
                TypeKind::Scalar | TypeKind::Union(_) | TypeKind::Enum(_) | TypeKind::InputObject(_) => {
                    return None;
                }
            };
            let types = fields.iter().map(|field| {
                let written = field.node.ty.node.to_string();
                let name = written.trim_matches(['[', ']', '!']).to_owned();
                (field.node.name.node.to_string(), name)
            });
            Some((definition.name.node.to_string(), types.collect()))
        };
        Self(definitions.iter().filter_map(of_type).collect())
    }

    /// Returns the first problem of a document, in the words of W&B's server, for which some clients look.
    pub(crate) fn check(&self, document: &ExecutableDocument) -> Result<(), String> {
        for (_, operation) in document.operations.iter() {
            let root = match operation.node.ty {
                OperationType::Query => "Query",
                OperationType::Mutation => "Mutation",
                OperationType::Subscription => return Err("Subscriptions are not supported".to_owned()),
            };
            self.check_set(&document.fragments, root, &operation.node.selection_set.node, 0)?;
        }
        Ok(())
    }

    fn check_set(
        &self,
        fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
        parent: &str,
        set: &SelectionSet,
        nesting: usize,
    ) -> Result<(), String> {
        if nesting > MAX_NESTING {
            return Err("Query is nested too deep.".to_owned());
        }
        set.items.iter().try_for_each(|selection| match &selection.node {
            Selection::Field(field) => self.check_field(fragments, parent, &field.node, nesting),
            Selection::InlineFragment(fragment) => {
                let on =
                    fragment.node.type_condition.as_ref().map(|condition| condition.node.on.node.as_str());
                let set = &fragment.node.selection_set.node;
                self.check_set(fragments, self.narrowed(parent, on), set, nesting + 1)
            }
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                let fragment = fragments.get(name).ok_or_else(|| format!("Unknown fragment \"{name}\"."))?;
                let on = fragment.node.type_condition.node.on.node.as_str();
                let set = &fragment.node.selection_set.node;
                self.check_set(fragments, self.narrowed(parent, Some(on)), set, nesting + 1)
            }
        })
    }

    /// The type whose fields a fragment selects. The fields of an interface are those of the object that is there.
    fn narrowed<'a>(&self, parent: &'a str, on: Option<&'a str>) -> &'a str {
        match on {
            Some("ArtifactCollection") | None => parent,
            Some(on) => on,
        }
    }

    fn check_field(
        &self,
        fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
        parent: &str,
        field: &Field,
        nesting: usize,
    ) -> Result<(), String> {
        let name = field.name.node.as_str();
        // Introspection. A type that this schema does not have is never there, so its fragments select nothing.
        let Some(types) = self.0.get(parent).filter(|_| !name.starts_with("__")) else { return Ok(()) };
        match types.get(name) {
            Some(ty) => self.check_set(fragments, ty, &field.selection_set.node, nesting + 1),
            None => Err(format!("Cannot query field \"{name}\" on type \"{parent}\".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;
    use crate::schema::definitions;

    #[test]
    fn texts_are_bounded_before_they_are_parsed() {
        let deep = "{ a ".repeat(MAX_BRACKETS);
        assert_eq!(check_text(&deep), Ok(()));
        assert_eq!(check_text(&format!("{{ a(b: \"\\\"{deep}\") }}")), Ok(()), "brackets in a text");
        assert_eq!(check_text(&format!("# {deep}\n{{ a }}")), Ok(()), "brackets in a comment");
        // What is a text to the scan only would hide brackets from it.
        for before in ["{", "{ # \"\n", "{ a(b: \"\"\"\\\\\"\"\" \"\"\") ", "{ a(b: \"\\\\\") "] {
            assert!(check_text(&format!("{before}{deep}")).is_err(), "{before}");
        }
        assert!(check_text("{ a(b: \"").is_err());
        assert!(check_text(&" ".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let types = FieldTypes::new(&definitions());
        let check = |text: &str| types.check(&parse_query(text).unwrap());
        assert_eq!(check("{ viewer { id teams { edges { node { name } } } } }"), Ok(()));
        assert_eq!(check("{ a: __type(name: \"Query\") { fields { name } } }"), Ok(()));
        assert_eq!(check("{ viewer { ...F } } fragment F on User { username }"), Ok(()));
        assert_eq!(
            check("query { viewer { ...F } } fragment F on User { nothing }"),
            Err("Cannot query field \"nothing\" on type \"User\".".to_owned())
        );
        assert_eq!(
            check("mutation { createNothing { id } }"),
            Err("Cannot query field \"createNothing\" on type \"Mutation\".".to_owned())
        );
        let collection =
            "{ artifactCollection(id: 1) { ...C } } fragment C on ArtifactCollection { name description }";
        assert_eq!(check(collection), Ok(()));
        let portfolio = "{ artifactCollection(id: 1) { ... on ArtifactPortfolio { anything } } }";
        assert_eq!(check(portfolio), Ok(()));
        let cycle = "{ viewer { ...F } } fragment F on User { ...F }";
        assert!(check(cycle).unwrap_err().contains("too deep"));
    }
}
