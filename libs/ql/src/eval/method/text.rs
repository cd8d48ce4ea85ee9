//! Methods of strings: case, tests, stripping, padding, joining and replacing. Sizes are
//! checked against the budget before a larger string is built.

use std::collections::BTreeSet;

use super::search;
use crate::eval::arguments::{Arguments, bind_arguments};
use crate::eval::{Arena, Exception, Machine, Result, compare, tables, unicode};
use crate::names::Member;
use crate::value::Value;
use crate::value::table::{TableBuilder, TableEntry};

pub(super) fn has_method(member: Member) -> bool {
    use Member as M;
    matches!(
        member,
        M::Capitalize
            | M::CaseFold
            | M::Center
            | M::Count
            | M::Encode
            | M::EndsWith
            | M::ExpandTabs
            | M::Find
            | M::Format
            | M::FormatMap
            | M::Index
            | M::IsAlnum
            | M::IsAlpha
            | M::IsAscii
            | M::IsDecimal
            | M::IsDigit
            | M::IsIdentifier
            | M::IsLower
            | M::IsNumeric
            | M::IsPrintable
            | M::IsSpace
            | M::IsTitle
            | M::IsUpper
            | M::Join
            | M::Ljust
            | M::Lower
            | M::Lstrip
            | M::MakeTrans
            | M::Partition
            | M::RemovePrefix
            | M::RemoveSuffix
            | M::Replace
            | M::Rfind
            | M::Rindex
            | M::Rjust
            | M::Rpartition
            | M::Rsplit
            | M::Rstrip
            | M::Split
            | M::SplitLines
            | M::StartsWith
            | M::Strip
            | M::SwapCase
            | M::Title
            | M::Translate
            | M::Upper
            | M::Zfill
    )
}

pub(super) fn text_method<'a>(
    machine: &Machine<'a>,
    text: &'a str,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    use Member as M;
    match member {
        M::StartsWith | M::EndsWith => return search::affix(&machine.arena, text, member, arguments),
        M::Find | M::Index | M::Rfind | M::Rindex => {
            return search::find_text(&machine.arena, text, member, arguments);
        }
        M::Count => return search::count_text(&machine.arena, text, arguments),
        M::Split | M::Rsplit => return search::split(&machine.arena, text, member, arguments),
        M::SplitLines => return search::split_lines(&machine.arena, text, arguments),
        M::Partition | M::Rpartition => return search::partition(&machine.arena, text, member, arguments),
        M::ExpandTabs => return expand_tabs(&machine.arena, text, arguments),
        M::Encode => return encode(text, arguments),
        M::Format | M::FormatMap => return Err(Exception::NotImplementedError.into()),
        _ if !arguments.keywords.is_empty() => return Err(Exception::TypeError.into()),
        _ => {}
    }
    machine.arena.spend_bytes(text.len())?;
    match (member, arguments.positional) {
        (M::Join, [parts]) => join(machine, text, *parts),
        (M::Replace, [Value::Text(old), Value::Text(new)]) => replace(&machine.arena, text, old, new, -1),
        (M::Replace, [Value::Text(old), Value::Text(new), count]) => {
            replace(&machine.arena, text, old, new, count.small_int().ok_or(Exception::TypeError)?)
        }
        (M::Strip | M::Lstrip | M::Rstrip, []) => Ok(Value::Text(strip(text, member, unicode::is_space))),
        (M::Strip | M::Lstrip | M::Rstrip, [Value::None]) => {
            Ok(Value::Text(strip(text, member, unicode::is_space)))
        }
        (M::Strip | M::Lstrip | M::Rstrip, [Value::Text(set)]) => {
            machine.arena.spend(set.len() as u64 / 8)?;
            let set: BTreeSet<char> = set.chars().collect();
            Ok(Value::Text(strip(text, member, |c| set.contains(&c))))
        }
        (M::RemovePrefix, [Value::Text(affix)]) => Ok(Value::Text(text.strip_prefix(affix).unwrap_or(text))),
        (M::RemoveSuffix, [Value::Text(affix)]) => Ok(Value::Text(text.strip_suffix(affix).unwrap_or(text))),
        (M::Center | M::Ljust | M::Rjust, [width]) => justify(&machine.arena, text, member, *width, ' '),
        (M::Center | M::Ljust | M::Rjust, [width, Value::Text(fill)]) => {
            let mut fill = fill.chars();
            match (fill.next(), fill.next()) {
                (Some(fill), None) => justify(&machine.arena, text, member, *width, fill),
                _ => Err(Exception::TypeError.into()),
            }
        }
        (M::Zfill, [width]) => zero_fill(&machine.arena, text, *width),
        (M::Translate, [table]) => translate(&machine.arena, text, *table),
        (M::MakeTrans, arguments) => make_table(&machine.arena, arguments),
        (_, []) => case_method(&machine.arena, text, member),
        _ => Err(Exception::TypeError.into()),
    }
}

fn case_method<'a>(arena: &Arena<'a>, text: &'a str, member: Member) -> Result<Value<'a>> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Ok(Value::Bool(match member {
        Member::Lower => return arena.text(&text.to_lowercase()),
        Member::Upper => return arena.text(&text.to_uppercase()),
        Member::CaseFold => return arena.text(&unicode::casefold(text)),
        Member::Title => return arena.text(&title(text)),
        Member::Capitalize => return arena.text(&capitalize(text)),
        Member::SwapCase => return arena.text(&swap_case(text)),
        Member::IsAlnum => all(unicode::is_alnum),
        Member::IsAlpha => all(unicode::is_alpha),
        Member::IsAscii => text.is_ascii(),
        Member::IsDecimal => all(unicode::is_decimal),
        Member::IsDigit => all(unicode::is_digit),
        Member::IsNumeric => all(|c| unicode::is_numeric(c) || unicode::is_digit(c)),
        Member::IsPrintable => text.chars().all(unicode::is_printable),
        Member::IsSpace => all(unicode::is_space),
        Member::IsIdentifier => {
            all(|c| c == '_' || c.is_alphanumeric())
                && !text.starts_with(|c: char| c != '_' && !c.is_alphabetic())
        }
        Member::IsLower => {
            text.chars().any(char::is_lowercase)
                && !text.chars().any(|c| c.is_uppercase() || unicode::is_title(c))
        }
        Member::IsUpper => {
            text.chars().any(char::is_uppercase)
                && !text.chars().any(|c| c.is_lowercase() || unicode::is_title(c))
        }
        Member::IsTitle => is_title(text),
        _ => return Err(Exception::TypeError.into()),
    }))
}

fn join<'a>(machine: &Machine<'a>, separator: &str, parts: Value<'a>) -> Result<Value<'a>> {
    let mut text = String::new();
    let mut first = true;
    machine.each(parts, &mut |part| {
        if !first {
            text.push_str(separator);
        }
        first = false;
        let part = part.text().ok_or(Exception::TypeError)?;
        machine.arena.spend_bytes(part.len())?;
        text.push_str(part);
        machine.arena.check_length(text.len())?;
        Ok(true)
    })?;
    machine.arena.text(&text)
}

fn replace<'a>(arena: &Arena<'a>, text: &str, old: &str, new: &str, count: i64) -> Result<Value<'a>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(count);
    arena.check_size(text.len() + found.saturating_mul(new.len()))?;
    arena.text(&text.replacen(old, new, count))
}

fn justify<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    member: Member,
    width: Value<'a>,
    fill: char,
) -> Result<Value<'a>> {
    let width = usize::try_from(width.small_int().ok_or(Exception::TypeError)?).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    if missing == 0 {
        return Ok(Value::Text(text));
    }
    arena.check_size(missing.saturating_mul(fill.len_utf8()).saturating_add(text.len()))?;
    // CPython's `center` puts the odd space to the left if the width is odd.
    let left = match member {
        Member::Ljust => 0,
        Member::Rjust => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    let before = std::iter::repeat_n(fill, left);
    let after = std::iter::repeat_n(fill, missing - left);
    let text: String = before.chain(text.chars()).chain(after).collect();
    arena.text(&text)
}

fn zero_fill<'a>(arena: &Arena<'a>, text: &'a str, width: Value<'a>) -> Result<Value<'a>> {
    let width = usize::try_from(width.small_int().ok_or(Exception::TypeError)?).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    arena.check_size(missing.saturating_add(text.len()))?;
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    arena.text(&format!("{sign}{}{digits}", "0".repeat(missing)))
}

fn expand_tabs<'a>(arena: &Arena<'a>, text: &str, arguments: Arguments<'a>) -> Result<Value<'a>> {
    let [size] = bind_arguments(arguments, ["tabsize"], 0)?;
    let size = size.map_or(Some(8), |size| size.small_int()).ok_or(Exception::TypeError)?;
    let size = usize::try_from(size).unwrap_or(0);
    arena.check_size(text.matches('\t').count().saturating_mul(size).saturating_add(text.len()))?;
    let mut expanded = String::new();
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' if size > 0 => {
                let blanks = size - column % size;
                expanded.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            '\t' => {}
            '\n' | '\r' => {
                expanded.push(character);
                column = 0;
            }
            other => {
                expanded.push(other);
                column += 1;
            }
        }
    }
    arena.text(&expanded)
}

fn encode<'a>(text: &'a str, arguments: Arguments<'a>) -> Result<Value<'a>> {
    let [encoding, _] = bind_arguments(arguments, ["encoding", "errors"], 0)?;
    match encoding.map_or(Some("utf-8"), |encoding| encoding.text()) {
        Some("utf-8" | "utf8" | "UTF-8" | "UTF8") => Ok(Value::Bytes(text.as_bytes())),
        Some("ascii") if text.is_ascii() => Ok(Value::Bytes(text.as_bytes())),
        Some(_) => Err(Exception::ValueError.into()),
        None => Err(Exception::TypeError.into()),
    }
}

fn translate<'a>(arena: &Arena<'a>, text: &str, table: Value<'a>) -> Result<Value<'a>> {
    let (Value::Dict(table) | Value::Object(table)) = table else {
        return Err(Exception::TypeError.into());
    };
    let mut translated = String::new();
    for character in text.chars() {
        let key = Value::Int(i64::from(u32::from(character)));
        match compare::find_entry(arena, table, compare::hash(arena, key)?, key)?.map(|entry| entry.value) {
            None => translated.push(character),
            // A character mapped to None is deleted.
            Some(Value::None) => {}
            Some(Value::Text(other)) => translated.push_str(other),
            Some(value) => {
                let code = value.small_int().and_then(|code| u32::try_from(code).ok());
                translated.push(code.and_then(char::from_u32).ok_or(Exception::TypeError)?);
            }
        }
        arena.check_length(translated.len())?;
    }
    arena.text(&translated)
}

/// `str.maketrans`, from a dict or from two or three strings.
fn make_table<'a>(arena: &Arena<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let mut table = TableBuilder::default();
    match *arguments {
        [Value::Dict(dict) | Value::Object(dict)] => {
            for entry in dict.entries() {
                map_character(arena, &mut table, entry.key, entry.value)?;
            }
        }
        [Value::Text(from), Value::Text(to)] | [Value::Text(from), Value::Text(to), Value::Text(_)] => {
            if from.chars().count() != to.chars().count() {
                return Err(Exception::ValueError.into());
            }
            for (from, to) in from.chars().zip(to.chars()) {
                map_character(arena, &mut table, code_of(from), code_of(to))?;
            }
            if let [_, _, Value::Text(dropped)] = arguments {
                for character in dropped.chars() {
                    map_character(arena, &mut table, code_of(character), Value::None)?;
                }
            }
        }
        _ => return Err(Exception::TypeError.into()),
    }
    arena.dict(table)
}

fn code_of<'a>(character: char) -> Value<'a> {
    Value::Int(i64::from(u32::from(character)))
}

/// Adds an entry to a table for `str.translate`. Its key is a character or the code of a character.
fn map_character<'a>(
    arena: &Arena<'a>,
    table: &mut TableBuilder<'a>,
    key: Value<'a>,
    value: Value<'a>,
) -> Result<()> {
    let key = match key {
        Value::Text(text) => match text.chars().next().filter(|c| c.len_utf8() == text.len()) {
            Some(character) => code_of(character),
            None => return Err(Exception::ValueError.into()),
        },
        key => key,
    };
    tables::insert(arena, table, TableEntry { hash: compare::hash(arena, key)?, key, value })
}

pub(in crate::eval) fn cap_words<'a>(arena: &Arena<'a>, text: &str) -> Result<Value<'a>> {
    arena.spend_bytes(text.len())?;
    let words: Vec<String> =
        text.split(unicode::is_space).filter(|word| !word.is_empty()).map(capitalize).collect();
    arena.text(&words.join(" "))
}

fn strip(text: &str, member: Member, is_cut: impl Fn(char) -> bool) -> &str {
    match member {
        Member::Lstrip => text.trim_start_matches(is_cut),
        Member::Rstrip => text.trim_end_matches(is_cut),
        _ => text.trim_matches(is_cut),
    }
}

fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            titled.extend(character.to_lowercase());
        } else {
            unicode::push_title(&mut titled, character);
        }
        inside = unicode::is_cased(character);
    }
    titled
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let mut capitalized = String::with_capacity(text.len());
    if let Some(first) = characters.next() {
        unicode::push_title(&mut capitalized, first);
        capitalized.push_str(&characters.as_str().to_lowercase());
    }
    capitalized
}

fn swap_case(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_uppercase() {
            swapped.extend(character.to_lowercase());
        } else if character.is_lowercase() {
            swapped.extend(character.to_uppercase());
        } else {
            swapped.push(character);
        }
    }
    swapped
}

fn is_title(text: &str) -> bool {
    let mut any = false;
    let mut inside = false;
    for character in text.chars() {
        if character.is_uppercase() || unicode::is_title(character) {
            if inside {
                return false;
            }
            any = true;
            inside = true;
        } else if character.is_lowercase() {
            if !inside {
                return false;
            }
            any = true;
            inside = true;
        } else {
            inside = false;
        }
    }
    any
}
