//! The executable schema, built from `schema.graphql`.
//!
//! The value of an object is JSON. A field is a member of it, unless `resolve` computes it.

use std::collections::HashSet;
use std::sync::Arc;

use async_graphql::dynamic::{
    Field, FieldFuture, InputObject, InputValue, Interface, InterfaceField, Object, ResolverContext, Scalar,
    Schema, SchemaBuilder, TypeRef,
};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Positioned, ValidationMode};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::budget::{Resource, held_bytes};
use crate::call::GraphqlCall;
use crate::error::Result;
use crate::node::{Arguments, Node, Selection, field_value};
use crate::resolve::resolve;

const TEXT: &str = include_str!("schema.graphql");

pub(crate) const QUERY: &str = "Query";
pub(crate) const MUTATION: &str = "Mutation";

/// Nesting of fields. The deepest document of a client has eleven levels.
pub(crate) const MAX_DEPTH: usize = 20;

/// Number of fields in an operation. The fields of a fragment count once for each spread. The largest document of a
/// client has about 150 fields.
pub(crate) const MAX_FIELDS: usize = 1_000;

/// Number of directives of one field.
const MAX_DIRECTIVES: usize = 8;

/// Scalars of GraphQL itself.
const BASIC_SCALARS: [&str; 5] =
    [TypeRef::INT, TypeRef::FLOAT, TypeRef::STRING, TypeRef::BOOLEAN, TypeRef::ID];

/// The definitions of the schema.
pub(crate) fn definitions() -> Vec<TypeDefinition> {
    let document = parse_schema(TEXT).expect("schema.graphql is valid");
    let types = document.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node),
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    types.collect()
}

/// Builds the schema. Fields that it does not have are refused by `document`, and values of arguments are checked
/// where they are used, so that documents of newer clients are answered as far as possible.
pub(crate) fn build(definitions: &[TypeDefinition]) -> Schema {
    let scalars: HashSet<&str> = definitions
        .iter()
        .filter(|definition| matches!(definition.kind, TypeKind::Scalar))
        .map(|definition| definition.name.node.as_str())
        .chain(BASIC_SCALARS)
        .collect();
    let builder = Schema::build(QUERY, Some(MUTATION), None)
        .validation_mode(ValidationMode::Fast)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_FIELDS)
        .limit_directives(MAX_DIRECTIVES)
        .disable_suggestions();
    let register = |builder, definition| register(builder, definition, &scalars);
    definitions.iter().fold(builder, register).finish().expect("schema.graphql is complete")
}

fn register(builder: SchemaBuilder, definition: &TypeDefinition, scalars: &HashSet<&str>) -> SchemaBuilder {
    let name = definition.name.node.as_str();
    match &definition.kind {
        TypeKind::Scalar => builder.register(Scalar::new(name)),
        TypeKind::Object(object) => {
            let empty = object
                .implements
                .iter()
                .fold(Object::new(name), |object, interface| object.implement(interface.node.as_str()));
            let of = |object: Object, definition: &Positioned<FieldDefinition>| {
                object.field(field(name, &definition.node, scalars))
            };
            builder.register(object.fields.iter().fold(empty, of))
        }
        TypeKind::Interface(interface) => {
            let empty = Interface::new(name);
            let interface = interface.fields.iter().fold(empty, |interface, definition| {
                let FieldDefinition { name, ty, .. } = &definition.node;
                interface.field(InterfaceField::new(name.node.as_str(), type_ref(&ty.node)))
            });
            builder.register(interface)
        }
        TypeKind::InputObject(input) => {
            let empty = InputObject::new(name);
            let object =
                input.fields.iter().fold(empty, |object, member| object.field(input_value(&member.node)));
            builder.register(object)
        }
        TypeKind::Union(_) | TypeKind::Enum(_) => unreachable!("schema.graphql has no unions and enums"),
    }
}

fn field(parent: &str, definition: &FieldDefinition, scalars: &HashSet<&str>) -> Field {
    let ty = type_ref(&definition.ty.node);
    let place = Arc::new(FieldPlace {
        parent: parent.to_owned(),
        name: definition.name.node.to_string(),
        is_scalar: scalars.contains(ty.type_name()),
        has_pages: definition
            .arguments
            .iter()
            .any(|argument| matches!(argument.node.name.node.as_str(), "first" | "last")),
        ty: ty.clone(),
    });
    let field =
        Field::new(definition.name.node.as_str(), ty, move |context| answer(Arc::clone(&place), context));
    definition.arguments.iter().fold(field, |field, argument| field.argument(input_value(&argument.node)))
}

/// A field of a type.
struct FieldPlace {
    parent: String,
    name: String,
    ty: TypeRef,
    is_scalar: bool,
    /// Whether clients choose how many rows they get.
    has_pages: bool,
}

/// Rows of a page whose client names no number, and the most rows of any page.
const DEFAULT_ROWS: i64 = 50;
const MAX_ROWS: i64 = 10_000;

fn answer<'a>(place: Arc<FieldPlace>, context: ResolverContext<'a>) -> FieldFuture<'a> {
    FieldFuture::new(async move {
        let call = context.ctx.data::<Arc<GraphqlCall>>()?;
        // The answer will not be sent.
        if call.context.budget.refusal().is_some() {
            return Ok(None);
        }
        let selection = Selection::new(context.ctx.field());
        let node = context.parent_value.downcast_ref::<Node>().cloned().unwrap_or_default();
        let arguments = context
            .args
            .iter()
            .map(|(name, value)| Ok((name.to_string(), value.as_value().clone().into_json()?)))
            .collect::<serde_json::Result<serde_json::Map<String, Value>>>()?;
        let arguments = Arguments::new(Value::Object(arguments));
        match resolved(call, &place, &node, &arguments, selection).await {
            Ok(value) => Ok(field_value(value, &place.ty, place.is_scalar)),
            Err(error) => {
                call.report(&error);
                Err(async_graphql::Error::new(error.message))
            }
        }
    })
}

/// A future of a named type, which the compiler knows to be `Send` for all lifetimes.
fn resolved<'c>(
    call: &'c GraphqlCall,
    place: &'c FieldPlace,
    node: &'c Node,
    arguments: &'c Arguments,
    selection: Selection<'c>,
) -> BoxFuture<'c, Result<Value>> {
    Box::pin(charged(call, place, node, arguments, selection))
}

/// The value of a field, charged to the request's budget.
async fn charged(
    call: &GraphqlCall,
    place: &FieldPlace,
    node: &Node,
    arguments: &Arguments,
    selection: Selection<'_>,
) -> Result<Value> {
    let budget = &call.context.budget;
    if place.has_pages {
        budget.charge(Resource::Rows, page_rows(arguments))?;
    }
    let value = resolve(call, &place.parent, &place.name, node, arguments, selection).await?;
    budget.charge(Resource::HeldBytes, held_bytes(&value))?;
    if let Value::Array(members) = &value {
        budget.charge(Resource::Fields, members.len().saturating_mul(selection.count()))?;
    }
    Ok(value)
}

/// The number of rows that a page may have. The arguments are checked where the page is read.
fn page_rows(arguments: &Arguments) -> usize {
    let wanted = ["first", "last"].into_iter().find_map(|name| arguments.integer(name).ok().flatten());
    usize::try_from(wanted.unwrap_or(DEFAULT_ROWS).clamp(1, MAX_ROWS)).unwrap_or(usize::MAX)
}

fn input_value(definition: &InputValueDefinition) -> InputValue {
    InputValue::new(definition.name.node.as_str(), type_ref(&definition.ty.node))
}

fn type_ref(ty: &Type) -> TypeRef {
    let base = match &ty.base {
        BaseType::Named(name) => TypeRef::named(name.as_str()),
        BaseType::List(inner) => TypeRef::List(Box::new(type_ref(inner))),
    };
    if ty.nullable { base } else { TypeRef::NonNull(Box::new(base)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_complete() {
        let schema = build(&definitions());
        let sdl = schema.sdl();
        assert!(sdl.contains("type ArtifactSequence implements ArtifactCollection"), "{sdl}");
        assert!(sdl.contains("upsertBucket(input: UpsertBucketInput!): UpsertBucketPayload"), "{sdl}");
    }
}
