//! Checks a document of a client before it is executed: that the schema has its fields, and that executing it is bounded
//! work. The executor itself would leave out unknown fields, and a client would take their absence for an empty value. It
//! also expands each spread of a fragment, so that a short document may have more fields than anyone can wait for.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_graphql::Positioned;
use async_graphql::parser::types::{
    ExecutableDocument, Field, FragmentDefinition, OperationType, Selection, SelectionSet, TypeDefinition,
    TypeKind,
};
use async_graphql::{Name, Value as ConstValue};

use crate::resolve::REFUSED_MUTATIONS;
use crate::schema::{MAX_DEPTH, MAX_FIELDS, MUTATION, QUERY};

/// Nesting of selections and fragments. The deepest document of a client has about fifteen levels.
const MAX_NESTING: usize = 32;

/// Fields of all operations and fragments of a document together. A client sends one operation in each document.
const MAX_ALL_FIELDS: usize = 10 * MAX_FIELDS;

const TOO_DEEP: &str = "Query is nested too deep.";
const TOO_COMPLEX: &str = "Query is too complex.";

/// The name by which an operation is counted that the schema does not have.
const UNKNOWN_QUERY: &str = "unknown query";
const UNKNOWN_MUTATION: &str = "unknown mutation";

/// All operations that `CheckedDocument::unanswered` may contain.
pub(crate) fn unanswered_operations() -> impl Iterator<Item = &'static str> {
    REFUSED_MUTATIONS.into_iter().chain([UNKNOWN_QUERY, UNKNOWN_MUTATION])
}

/// Size of the longest document that is accepted. The longest document of a client has about 4,000 bytes.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// Checks a text before it is parsed: the parser calls itself for each bracket, so their nesting is bounded here.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(format!(
            "The document has more than {MAX_DOCUMENT_BYTES} bytes: send values as variables."
        ));
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
            return Err(TOO_DEEP.to_owned());
        }
    }
    Ok(())
}

/// The variables that an operation gives a value if the request does not. Directives look at the variables of the
/// request only.
pub(crate) fn default_variables(
    document: &ExecutableDocument,
    operation: Option<&str>,
) -> Vec<(Name, ConstValue)> {
    let chosen = document.operations.iter().filter(|(name, _)| {
        operation.is_none_or(|operation| name.is_some_and(|name| name.as_str() == operation))
    });
    let definitions = chosen.flat_map(|(_, operation)| &operation.node.variable_definitions);
    let defaults = definitions.filter_map(|definition| {
        let value = definition.node.default_value.as_ref()?;
        Some((definition.node.name.node.clone(), value.node.clone()))
    });
    defaults.collect()
}

/// The text after the line of a comment.
fn after_comment(comment: &[u8]) -> &[u8] {
    let end = comment.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(comment.len());
    &comment[end..]
}

/// The text after a string, which starts with quotes; `None` if the string has no end.
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

/// Nesting of brackets. The deepest document of a client has twelve levels.
const MAX_BRACKETS: usize = 64;

/// The type of a field, without lists.
#[derive(Debug)]
struct FieldType {
    name: String,
    has_arguments: bool,
}

impl FieldType {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), has_arguments: false }
    }
}

/// The types of the fields of each object, by the names of the object and the field.
#[derive(Debug)]
pub(crate) struct FieldTypes(HashMap<String, HashMap<String, FieldType>>);

/// The parts of introspection for which clients ask: the names of the fields and the arguments of a type. Further parts
/// lead from each type to all others, and would be answered at once whatever their size.
const INTROSPECTION: [(&str, &[(&str, &str)]); 3] = [
    ("__Type", &[("name", "String"), ("fields", "__Field"), ("inputFields", "__InputValue")]),
    ("__Field", &[("name", "String"), ("args", "__InputValue")]),
    ("__InputValue", &[("name", "String")]),
];

/// The result of checking a document.
#[derive(Debug)]
pub(crate) struct CheckedDocument {
    /// The first problem, in the words of W&B's server, for which some clients look; `None` if the document may be
    /// executed.
    pub(crate) problem: Option<String>,
    /// Operations that this server does not have, by names for metrics.
    pub(crate) unanswered: BTreeSet<&'static str>,
}

impl FieldTypes {
    pub(crate) fn new(definitions: &[TypeDefinition]) -> Self {
        let mut types: HashMap<String, HashMap<String, FieldType>> =
            definitions.iter().filter_map(field_types).collect();
        for (name, fields) in INTROSPECTION {
            let fields = fields.iter().map(|(field, ty)| ((*field).to_owned(), FieldType::new(ty)));
            types.insert(name.to_owned(), fields.collect());
        }
        if let Some(query) = types.get_mut(QUERY) {
            query.insert("__type".to_owned(), FieldType::new("__Type"));
        }
        Self(types)
    }

    pub(crate) fn check(&self, document: &ExecutableDocument) -> CheckedDocument {
        let mut check = DocumentCheck {
            types: self,
            fragments: &document.fragments,
            sizes: HashMap::new(),
            unanswered: BTreeSet::new(),
        };
        let problem = check.check(document).err();
        CheckedDocument { problem, unanswered: check.unanswered }
    }
}

/// The name of an object or an interface, and the types of its fields; `None` for other types, which have no fields.
fn field_types(definition: &TypeDefinition) -> Option<(String, HashMap<String, FieldType>)> {
    let fields = match &definition.kind {
        TypeKind::Object(object) => &object.fields,
        TypeKind::Interface(interface) => &interface.fields,
        TypeKind::Scalar | TypeKind::Union(_) | TypeKind::Enum(_) | TypeKind::InputObject(_) => return None,
    };
    let types = fields.iter().map(|field| {
        let written = field.node.ty.node.to_string();
        let name = written.trim_matches(['[', ']', '!']).to_owned();
        let has_arguments = !field.node.arguments.is_empty();
        (field.node.name.node.to_string(), FieldType { name, has_arguments })
    });
    Some((definition.name.node.to_string(), types.collect()))
}

/// Stands for the types that this schema does not have. No object has such a type, so its fields are counted only.
const NEVER_THERE: &str = "";

/// The object whose fields are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Parent<'a> {
    type_name: &'a str,
    /// Whether the object is the project of a run, or below it. Clients ask for its names. Its runs would multiply
    /// the work: each run of a page would have all of them.
    is_in_run: bool,
}

impl<'a> Parent<'a> {
    fn of_type(type_name: &'a str) -> Self {
        Self { type_name, is_in_run: false }
    }

    /// The object whose fields a fragment selects. The fields of an interface are the fields of the concrete object.
    fn narrowed(self, on: Option<&'a str>) -> Self {
        match on {
            Some(type_name) if type_name != "ArtifactCollection" && self.type_name != NEVER_THERE => {
                Self { type_name, ..self }
            }
            _ => self,
        }
    }
}

/// The work of executing a selection once. All numbers saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SelectionSize {
    /// Number of fields. The fields of a fragment count once for each spread.
    fields: usize,
    /// Nesting of fields.
    depth: usize,
    /// Nesting of selections and fragments.
    nesting: usize,
}

impl SelectionSize {
    fn of_field(children: Self) -> Self {
        Self {
            fields: children.fields.saturating_add(1),
            depth: children.depth.saturating_add(1),
            nesting: children.nesting.saturating_add(1),
        }
    }

    fn of_fragment(selected: Self) -> Self {
        Self { nesting: selected.nesting.saturating_add(1), ..selected }
    }

    fn with(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_add(other.fields),
            depth: self.depth.max(other.depth),
            nesting: self.nesting.max(other.nesting),
        }
    }

    fn checked(self) -> Result<Self, String> {
        if self.depth > MAX_DEPTH || self.nesting > MAX_NESTING {
            Err(TOO_DEEP.to_owned())
        } else if self.fields > MAX_FIELDS {
            Err(TOO_COMPLEX.to_owned())
        } else {
            Ok(self)
        }
    }
}

/// The check of one document. Each fragment is checked once for each type in which it is spread, and its size is added
/// for each spread. So the check takes as long as reading the document, whatever its fragments expand to.
struct DocumentCheck<'a> {
    types: &'a FieldTypes,
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// Sizes of fragments by their names and parents; `None` while a fragment is being checked.
    sizes: HashMap<(&'a str, Parent<'a>), Option<SelectionSize>>,
    unanswered: BTreeSet<&'static str>,
}

impl<'a> DocumentCheck<'a> {
    fn check(&mut self, document: &'a ExecutableDocument) -> Result<(), String> {
        let mut all_fields = 0_usize;
        for (_, operation) in document.operations.iter() {
            let root = match operation.node.ty {
                OperationType::Query => QUERY,
                OperationType::Mutation => MUTATION,
                OperationType::Subscription => return Err("Subscriptions are not supported".to_owned()),
            };
            let set = &operation.node.selection_set.node;
            all_fields = all_fields.saturating_add(self.check_set(Parent::of_type(root), set, 0)?.fields);
        }
        // The executor also checks fragments that no operation spreads, whose fields may be anything.
        let spread: HashSet<&str> = self.sizes.keys().map(|(name, _)| *name).collect();
        for name in document.fragments.keys().map(Name::as_str).filter(|name| !spread.contains(name)) {
            let size = self.check_fragment(Parent::of_type(NEVER_THERE), name, 0)?;
            all_fields = all_fields.saturating_add(size.fields);
        }
        if all_fields > MAX_ALL_FIELDS { Err(TOO_COMPLEX.to_owned()) } else { Ok(()) }
    }

    fn check_set(
        &mut self,
        parent: Parent<'a>,
        set: &'a SelectionSet,
        nesting: usize,
    ) -> Result<SelectionSize, String> {
        if nesting > MAX_NESTING {
            return Err(TOO_DEEP.to_owned());
        }
        let mut size = SelectionSize::default();
        for selection in &set.items {
            let selected = match &selection.node {
                Selection::Field(field) => {
                    SelectionSize::of_field(self.check_field(parent, &field.node, nesting)?)
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    let parent = parent.narrowed(condition.map(|condition| condition.node.on.node.as_str()));
                    let set = &fragment.node.selection_set.node;
                    SelectionSize::of_fragment(self.check_set(parent, set, nesting + 1)?)
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    SelectionSize::of_fragment(self.check_fragment(parent, name, nesting + 1)?)
                }
            };
            size = size.with(selected).checked()?;
        }
        Ok(size)
    }

    /// Checks a fragment that is spread in this object.
    fn check_fragment(
        &mut self,
        parent: Parent<'a>,
        name: &'a str,
        nesting: usize,
    ) -> Result<SelectionSize, String> {
        let fragment = self.fragments.get(name).ok_or_else(|| format!("Unknown fragment \"{name}\"."))?;
        let parent = parent.narrowed(Some(fragment.node.type_condition.node.on.node.as_str()));
        match self.sizes.insert((name, parent), None) {
            Some(Some(size)) => {
                self.sizes.insert((name, parent), Some(size));
                Ok(size)
            }
            Some(None) => Err(format!("Cannot spread fragment \"{name}\" within itself.")),
            None => {
                let size = self.check_set(parent, &fragment.node.selection_set.node, nesting)?;
                self.sizes.insert((name, parent), Some(size));
                Ok(size)
            }
        }
    }

    /// Checks a field, and returns the size of the selection on its value.
    fn check_field(
        &mut self,
        parent: Parent<'a>,
        field: &'a Field,
        nesting: usize,
    ) -> Result<SelectionSize, String> {
        let value = self.value_of(parent, field.name.node.as_str())?;
        self.check_set(value, &field.selection_set.node, nesting + 1)
    }

    /// The object that a field leads to.
    fn value_of(&mut self, parent: Parent<'a>, name: &'a str) -> Result<Parent<'a>, String> {
        let Parent { type_name, is_in_run } = parent;
        let Some(types) = self.types.0.get(type_name).filter(|_| name != "__typename") else {
            return Ok(Parent { type_name: NEVER_THERE, is_in_run });
        };
        self.count(type_name, name, types.contains_key(name));
        let Some(field) = types.get(name) else {
            return Err(format!("Cannot query field \"{name}\" on type \"{type_name}\"."));
        };
        if is_in_run && field.has_arguments {
            return Err(format!(
                "`{name}` cannot be selected below the project of a run: ask for the project by its name"
            ));
        }
        let is_in_run = is_in_run || (type_name == "Run" && name == "project");
        Ok(Parent { type_name: &field.name, is_in_run })
    }

    /// Records a field of the root that this server does not have. Clients choose unknown names, so all unknown names
    /// are counted under one name here.
    fn count(&mut self, type_name: &str, name: &str, is_known: bool) {
        let unanswered = match (type_name, is_known) {
            (QUERY, false) => Some(UNKNOWN_QUERY),
            (MUTATION, false) => Some(UNKNOWN_MUTATION),
            (MUTATION, true) => REFUSED_MUTATIONS.into_iter().find(|refused| *refused == name),
            _ => None,
        };
        self.unanswered.extend(unanswered);
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
        // A text that only the scan takes for a string would hide brackets from the scan.
        for before in ["{", "{ # \"\n", "{ a(b: \"\"\"\\\\\"\"\" \"\"\") ", "{ a(b: \"\\\\\") "] {
            assert!(check_text(&format!("{before}{deep}")).is_err(), "{before}");
        }
        assert!(check_text("{ a(b: \"").is_err());
        assert!(check_text(&" ".repeat(MAX_DOCUMENT_BYTES + 1)).is_err());
    }

    #[test]
    fn variables_have_the_values_of_their_operation() {
        let text = "query A($a: Boolean = true, $b: Int) { a } query B($c: [Int] = [1]) { a }";
        let of = |operation| {
            let found = default_variables(&parse_query(text).unwrap(), operation);
            found.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(of(Some("A")), ["a=true"]);
        assert_eq!(of(Some("B")), ["c=[1]"]);
        assert!(of(Some("C")).is_empty());
        let unnamed = parse_query("query ($a: Boolean = false) { a }").unwrap();
        assert_eq!(default_variables(&unnamed, None).len(), 1);
    }

    fn check(text: &str) -> CheckedDocument {
        FieldTypes::new(&definitions()).check(&parse_query(text).unwrap())
    }

    fn check_accepted(text: &str) {
        assert_eq!(check(text).problem, None, "{text}");
    }

    fn check_refused(text: &str, problem: &str) {
        let found = check(text).problem;
        assert!(found.as_deref().is_some_and(|found| found.contains(problem)), "{text}: {found:?}");
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        check_accepted("{ viewer { id teams { edges { node { name } } } } }");
        check_accepted("{ viewer { ...F } } fragment F on User { username }");
        check_refused(
            "query { viewer { ...F } } fragment F on User { nothing }",
            "Cannot query field \"nothing\" on type \"User\".",
        );
        check_refused(
            "mutation { createNothing { id } }",
            "Cannot query field \"createNothing\" on type \"Mutation\".",
        );
        check_accepted(
            "{ artifactCollection(id: 1) { ...C } } fragment C on ArtifactCollection { name description }",
        );
        check_accepted("{ artifactCollection(id: 1) { ... on ArtifactPortfolio { anything { at all } } } }");
        check_accepted("{ viewer { id } } fragment Unused on User { ...G } fragment G on User { nothing }");
    }

    #[test]
    fn rule_110_fragments_are_counted_before_they_are_expanded() {
        // Each fragment spreads the next fragment this often, and the last fragment has one field.
        let document = |fragments: usize, spreads: usize| {
            let spread = |next: usize| format!("...F{next} ").repeat(spreads);
            let body = |at: usize| if at + 1 == fragments { "id".to_owned() } else { spread(at + 1) };
            let definitions = (0..fragments).map(|at| format!("fragment F{at} on User {{ {} }} ", body(at)));
            format!("{{ viewer {{ ...F0 }} }} {}", definitions.collect::<String>())
        };
        check_accepted(&document(9, 2));
        check_refused(&document(15, 20), TOO_COMPLEX);
        check_refused(&document(60, 200), "Query is");
        check_refused(&document(MAX_NESTING + 2, 1), TOO_DEEP);
        // Fragments are bounded even where no operation spreads them.
        let unused = document(15, 20).replace("...F0 }", "id }");
        check_refused(&unused, TOO_COMPLEX);
        check_refused("{ viewer { id } } fragment F on User { ...G } fragment G on User { ...F }", "itself");
        check_refused("{ viewer { ...F } } fragment F on User { ...F }", "itself");
        check_refused(&format!("{{ viewer {{ {} }} }}", "id ".repeat(MAX_FIELDS)), TOO_COMPLEX);
        let deep = "artifactSequence { latestArtifact { ".repeat(10);
        check_refused(&format!("{{ artifact(id: 1) {{ {deep} id {} }} }}", "} ".repeat(20)), TOO_DEEP);
        let many: String =
            (0..11).map(|at| format!("query Q{at} {{ {} }} ", "viewer ".repeat(950))).collect();
        check_refused(&many, TOO_COMPLEX);
    }

    #[test]
    fn rule_110_a_fragment_may_be_spread_often() {
        let spreads = "...F ".repeat(100);
        check_accepted(&format!("{{ viewer {{ {spreads} }} }} fragment F on User {{ id name }}"));
    }

    #[test]
    fn rule_110_a_project_below_runs_has_names_and_no_runs() {
        let below = |selection: &str| {
            format!(
                "{{ project(name: \"p\") {{ runs(first: 9) {{ edges {{ node {{ {selection} }} }} }} }} }}"
            )
        };
        check_accepted(&below("project { id internalId name entityName entity { id name } }"));
        check_accepted(&format!("{} fragment P on Project {{ name }}", below("project { ...P }")));
        for selection in [
            "project { runs { totalCount } }",
            "project { entity { project(name: \"p\") { name } } }",
            "project { ... on Project { run(name: \"r\") { id } } }",
            "a: project { ...P }",
        ] {
            let fragment = "fragment P on Project { artifactTypes { edges { node { name } } } }";
            check_refused(&format!("{} {fragment}", below(selection)), "below the project of a run");
        }
    }

    #[test]
    fn rule_110_introspection_lists_names_only() {
        check_accepted(
            "{ __type(name: \"Query\") { ...T } }
            fragment T on __Type { __typename name fields { name args { name } } inputFields { name } }",
        );
        check_accepted("{ a: __type(name: \"Run\") { fields { name } } b: __type(name: \"X\") { name } }");
        check_refused(
            "{ __type(name: \"Run\") { ...T } } fragment T on __Type { fields { args { type { name } } } }",
            "Cannot query field",
        );
        for selection in [
            "__schema { types { name } }",
            "__type(name: \"Run\") { fields { type { name } } }",
            "viewer { __type(name: \"Run\") { name } }",
        ] {
            check_refused(&format!("{{ {selection} }}"), "Cannot query field");
        }
    }

    #[test]
    fn operations_that_are_not_answered_are_counted_by_bounded_names() {
        let counted = |text: &str| check(text).unanswered.into_iter().collect::<Vec<_>>();
        assert_eq!(counted("{ viewer { id } serverInfo { nothing } }"), [""; 0]);
        assert_eq!(counted("{ anything { id } }"), [UNKNOWN_QUERY]);
        assert_eq!(counted("mutation { anything { id } }"), [UNKNOWN_MUTATION]);
        assert_eq!(counted("mutation { a: upsertSweep { sweep { id } } }"), ["upsertSweep"]);
        assert_eq!(counted("mutation { ...M } fragment M on Mutation { stopRun { success } }"), ["stopRun"]);
        let types = FieldTypes::new(&definitions());
        for refused in REFUSED_MUTATIONS {
            assert!(types.0[MUTATION].contains_key(refused), "{refused}");
        }
    }
}
