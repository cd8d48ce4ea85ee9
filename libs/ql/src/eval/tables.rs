//! Building of dicts and sets: insertion with Python's equality.

use super::{Arena, Result, compare};
use crate::value::Value;
use crate::value::table::{TableBuilder, TableEntry};

pub(super) fn insert<'a>(
    arena: &Arena<'a>,
    builder: &mut TableBuilder<'a>,
    entry: TableEntry<'a>,
) -> Result<()> {
    arena.spend(1)?;
    builder.insert(entry, || arena.spend(1), |known| compare::equal(arena, *known, entry.key))
}

pub(super) fn text_dict<'a>(arena: &Arena<'a>, entries: &[(&'a str, Value<'a>)]) -> Result<Value<'a>> {
    arena.check_items(entries.len() * 2)?;
    let mut builder = TableBuilder::default();
    for &(key, value) in entries {
        arena.spend_bytes(key.len())?;
        let hash = super::compare::hash_text(key);
        insert(arena, &mut builder, TableEntry { hash, key: Value::Text(key), value })?;
    }
    arena.dict(builder)
}

pub(super) fn insert_item<'a>(
    arena: &Arena<'a>,
    builder: &mut TableBuilder<'a>,
    item: Value<'a>,
) -> Result<()> {
    arena.check_items(builder.len() * 2)?;
    insert(arena, builder, TableEntry { hash: compare::hash(arena, item)?, key: item, value: Value::None })
}
