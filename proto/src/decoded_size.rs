//! The size of a message in memory, estimated before the message is decoded. Two bytes on the wire can become an entry
//! of more than a hundred, so that a limit on the bytes on the wire alone would let a request take gigabytes before
//! anything of it is checked.
//!
//! The estimate walks over the fields of the message, with the descriptors that the messages are generated from.
//! Numbers in a packed field are counted and not read, so large batches of points cost next to nothing.

use std::collections::{HashMap, HashSet};

use prost::{
    DecodeError, Message, Name,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::limits;

/// Most memory that a request may take once it is decoded, without what its lists allocate in advance.
pub const DECODED_BYTES: usize = 4 * limits::MESSAGE_BYTES;

/// Nesting up to which messages are decoded.
const MAX_DEPTH: usize = 100;

const LIST_BYTES: usize = size_of::<Vec<u8>>();
const MAP_BYTES: usize = size_of::<HashMap<u8, u8>>();
const TEXT_BYTES: usize = size_of::<String>();
const BLOB_BYTES: usize = size_of::<bytes::Bytes>();
const NUMBER_BYTES: usize = size_of::<i64>();

/// The tag that says whether an optional number or message is there, or which alternative, with its padding.
const TAG_BYTES: usize = size_of::<usize>();

/// A hash table is at least half full, unless it has just grown.
const MAP_GROWTH: usize = 2;

/// A message that would take too much memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTooLarge {
    /// Name of the field of the message that exceeds the limit.
    pub field: String,
}

impl std::fmt::Display for MessageTooLarge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = &self.field;
        write!(
            formatter,
            "would take more than {DECODED_BYTES} bytes of memory once it is decoded: send fewer entries of `{field}` \
             in one message"
        )
    }
}

/// The layouts of the messages of a set of files.
#[derive(Debug)]
pub struct MessageLayouts {
    messages: Vec<MessageLayout>,
    by_name: HashMap<String, usize>,
    /// Messages that a client sends to a service.
    requests: HashSet<String>,
}

/// The layout of a message.
#[derive(Debug)]
pub struct MessageLayout {
    /// Sorted by their numbers.
    fields: Vec<FieldLayout>,
}

#[derive(Debug)]
struct FieldLayout {
    number: i32,
    name: String,
    /// Memory of each occurrence on the wire, in addition to the content. None if it is in the message itself.
    entry_bytes: usize,
    content: FieldContent,
}

#[derive(Clone, Copy, Debug)]
enum FieldContent {
    /// Text, bytes, and packed numbers of fixed size take as much memory as on the wire.
    AsOnWire,
    /// Packed numbers of variable size.
    Varints { number_bytes: usize },
    /// A message, by its place in the list.
    Message(usize),
}

impl MessageLayouts {
    /// Reads an encoded `FileDescriptorSet` that includes all imported files.
    pub fn from_descriptors(descriptors: &[u8]) -> Result<Self, DecodeError> {
        let set = FileDescriptorSet::decode(descriptors)?;
        let mut described = Vec::new();
        for file in &set.file {
            for message in &file.message_type {
                add_described(file.package(), message, &mut described);
            }
        }
        let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let requests = methods.map(|method| method.input_type().trim_start_matches('.').to_owned()).collect();
        let by_name: HashMap<_, _> =
            described.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
        let mut sizes = StructSizes::new(&described, &by_name);
        for index in 0..described.len() {
            sizes.of_message(index);
        }
        let messages = described.iter().map(|(_, message)| sizes.layout(message)).collect();
        Ok(Self { messages, by_name, requests })
    }

    /// The layout of a message.
    pub fn message<M: Name>(&self) -> Option<&MessageLayout> {
        self.messages.get(*self.by_name.get(&M::full_name())?)
    }

    /// The layout of a message that a client sends to a service; none of any other message.
    pub fn request<M: Name>(&self) -> Option<&MessageLayout> {
        self.requests.contains(&M::full_name()).then(|| self.message::<M>()).flatten()
    }

    /// Checks that an encoded message does not take too much memory. A malformed message passes as far as it can be
    /// read: decoding it fails at the same place.
    pub fn check(&self, layout: &MessageLayout, encoded: &[u8]) -> Result<(), MessageTooLarge> {
        let mut meter = MemoryMeter { messages: &self.messages, bytes_left: DECODED_BYTES };
        meter.message(layout, encoded, 0).map_err(|field| MessageTooLarge { field: field.to_owned() })
    }
}

/// Adds a message and the messages that are defined inside it, with their full names.
fn add_described<'a>(
    scope: &str,
    message: &'a DescriptorProto,
    described: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name =
        if scope.is_empty() { message.name().to_owned() } else { format!("{scope}.{}", message.name()) };
    for inner in &message.nested_type {
        add_described(&name, inner, described);
    }
    described.push((name, message));
}

/// Upper bounds of the sizes of the generated types.
struct StructSizes<'a> {
    described: &'a [(String, &'a DescriptorProto)],
    by_name: &'a HashMap<String, usize>,
    known: Vec<Option<usize>>,
    /// Messages whose size is being computed.
    open: HashSet<usize>,
    /// Messages that contain themselves, behind a pointer.
    recursive: HashSet<usize>,
}

impl<'a> StructSizes<'a> {
    fn new(described: &'a [(String, &'a DescriptorProto)], by_name: &'a HashMap<String, usize>) -> Self {
        let known = vec![None; described.len()];
        Self { described, by_name, known, open: HashSet::new(), recursive: HashSet::new() }
    }

    fn of_message(&mut self, index: usize) -> usize {
        if let Some(known) = self.known[index] {
            return known;
        }
        if !self.open.insert(index) {
            self.recursive.insert(index);
            return size_of::<Box<u8>>();
        }
        let message = self.described[index].1;
        let mut bytes = 0;
        let mut largest_alternatives: HashMap<i32, usize> = HashMap::new();
        for field in &message.field {
            let field_bytes = self.of_field(field);
            match field.oneof_index {
                Some(choice) if !field.proto3_optional() => {
                    let largest = largest_alternatives.entry(choice).or_default();
                    *largest = field_bytes.max(*largest);
                }
                _ => bytes += field_bytes,
            }
        }
        bytes += largest_alternatives.values().map(|largest| largest + TAG_BYTES).sum::<usize>();
        self.open.remove(&index);
        self.known[index] = Some(bytes);
        bytes
    }

    fn of_field(&mut self, field: &FieldDescriptorProto) -> usize {
        if field.label() != Label::Repeated {
            return self.of_value(field);
        }
        if self.map_entry(field).is_some() { MAP_BYTES } else { LIST_BYTES }
    }

    fn of_value(&mut self, field: &FieldDescriptorProto) -> usize {
        match field.r#type() {
            Type::String => TEXT_BYTES,
            Type::Bytes => BLOB_BYTES,
            Type::Message | Type::Group => {
                self.message_of(field).map_or(0, |index| self.of_message(index)) + TAG_BYTES
            }
            _ if field.proto3_optional() => NUMBER_BYTES + TAG_BYTES,
            _ => NUMBER_BYTES,
        }
    }

    fn message_of(&self, field: &FieldDescriptorProto) -> Option<usize> {
        self.by_name.get(field.type_name().trim_start_matches('.')).copied()
    }

    /// The message that has the key and the value of an entry, if the field is a map.
    fn map_entry(&self, field: &FieldDescriptorProto) -> Option<usize> {
        let is_map =
            |index: &usize| self.described[*index].1.options.as_ref().is_some_and(|it| it.map_entry());
        self.message_of(field).filter(is_map)
    }

    fn layout(&mut self, message: &DescriptorProto) -> MessageLayout {
        let mut fields: Vec<_> = message.field.iter().map(|field| self.field_layout(field)).collect();
        fields.sort_unstable_by_key(|field| field.number);
        MessageLayout { fields }
    }

    fn field_layout(&mut self, field: &FieldDescriptorProto) -> FieldLayout {
        let message = self.message_of(field);
        let content = match (field.r#type(), message) {
            (Type::Message | Type::Group, Some(index)) => FieldContent::Message(index),
            (kind, _) if is_varint(kind) => FieldContent::Varints { number_bytes: number_bytes(kind) },
            _ => FieldContent::AsOnWire,
        };
        let entry_bytes = match (field.label(), message) {
            (Label::Repeated, Some(index)) if self.map_entry(field).is_some() => {
                MAP_GROWTH * self.of_message(index)
            }
            (Label::Repeated, Some(index)) => self.of_message(index),
            (Label::Repeated, None) if matches!(field.r#type(), Type::String | Type::Bytes) => {
                self.of_value(field)
            }
            (Label::Repeated, None) => number_bytes(field.r#type()),
            (_, Some(index)) if self.recursive.contains(&index) => self.of_message(index),
            _ => 0,
        };
        FieldLayout { number: field.number(), name: field.name().to_owned(), entry_bytes, content }
    }
}

fn is_varint(kind: Type) -> bool {
    !matches!(
        kind,
        Type::String
            | Type::Bytes
            | Type::Message
            | Type::Group
            | Type::Double
            | Type::Float
            | Type::Fixed32
            | Type::Fixed64
            | Type::Sfixed32
            | Type::Sfixed64
    )
}

fn number_bytes(kind: Type) -> usize {
    match kind {
        Type::Bool => 1,
        Type::Float
        | Type::Fixed32
        | Type::Sfixed32
        | Type::Int32
        | Type::Uint32
        | Type::Sint32
        | Type::Enum => 4,
        _ => NUMBER_BYTES,
    }
}

impl MessageLayout {
    fn field(&self, number: u32) -> Option<&FieldLayout> {
        let number = i32::try_from(number).ok()?;
        let found = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(found)
    }
}

/// More memory than is allowed.
struct LimitExceeded;

/// Counts the memory of one message.
struct MemoryMeter<'a> {
    messages: &'a [MessageLayout],
    bytes_left: usize,
}

impl<'a> MemoryMeter<'a> {
    /// Fails with the name of the field that exceeds the limit.
    fn message(
        &mut self,
        layout: &'a MessageLayout,
        mut encoded: &[u8],
        depth: usize,
    ) -> Result<(), &'a str> {
        while !encoded.is_empty() {
            let Ok((number, wire_type)) = decode_key(&mut encoded) else { return Ok(()) };
            let from_content = encoded;
            if skip_field(wire_type, number, &mut encoded, DecodeContext::default()).is_err() {
                return Ok(());
            }
            let Some(field) = layout.field(number) else { continue };
            let content = &from_content[..from_content.len() - encoded.len()];
            self.field(field, wire_type, content, depth).map_err(|LimitExceeded| field.name.as_str())?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &'a FieldLayout,
        wire_type: WireType,
        mut content: &[u8],
        depth: usize,
    ) -> Result<(), LimitExceeded> {
        self.take(field.entry_bytes)?;
        // The content begins with its length.
        if wire_type != WireType::LengthDelimited || decode_varint(&mut content).is_err() {
            return Ok(());
        }
        match field.content {
            FieldContent::AsOnWire => self.take(content.len()),
            FieldContent::Varints { number_bytes } => self.take(number_bytes * varints(content)),
            FieldContent::Message(index) if depth < MAX_DEPTH => {
                self.message(&self.messages[index], content, depth + 1).map_err(|_| LimitExceeded)
            }
            // Decoding it fails.
            FieldContent::Message(_) => Ok(()),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(LimitExceeded)?;
        Ok(())
    }
}

/// Number of packed numbers: the highest bit of the last byte of each is not set.
fn varints(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 0x80).count()
}

#[cfg(test)]
mod tests;
