//! Searching and splitting of strings, and the methods of bytes. Positions count characters, so
//! on non-ASCII strings they are converted to byte offsets and back.

use crate::eval::arguments::{Arguments, bind_arguments};
use crate::eval::unicode::is_space;
use crate::eval::{Arena, Exception, Result, index};
use crate::names::Member;
use crate::value::Value;

pub(super) fn has_bytes_method(member: Member) -> bool {
    matches!(
        member,
        Member::Count
            | Member::Decode
            | Member::EndsWith
            | Member::Find
            | Member::Hex
            | Member::IsAscii
            | Member::Lower
            | Member::StartsWith
            | Member::Upper
    )
}

/// Part of a string between two positions, with its start in characters.
struct TextWindow<'t> {
    text: &'t str,
    start: i64,
}

/// Returns `text[start:stop]`, or `None` if the start is past the end.
fn window<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    bounds: &[Option<Value<'a>>],
) -> Result<Option<TextWindow<'a>>> {
    arena.spend_bytes(text.len())?;
    let start = bound(bounds.first().copied().flatten())?;
    let stop = bound(bounds.get(1).copied().flatten())?;
    if start.is_none() && stop.is_none() {
        return Ok(Some(TextWindow { text, start: 0 }));
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let start = index::from_start(start.unwrap_or(0), length);
    let stop = index::from_start(stop.unwrap_or(length), length).min(length);
    if start > stop {
        return Ok(None);
    }
    let part = &text[index::byte_offset(text, start)..index::byte_offset(text, stop)];
    Ok(Some(TextWindow { text: part, start }))
}

fn bound(bound: Option<Value<'_>>) -> Result<Option<i64>> {
    match bound {
        None | Some(Value::None) => Ok(None),
        Some(value) => value.small_int().map(Some).ok_or(Exception::TypeError.into()),
    }
}

pub(super) fn find_text<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let [part, bounds @ ..] = bind_arguments(arguments, ["", "", ""], 1)?;
    let part = part.and_then(|part| part.text()).ok_or(Exception::TypeError)?;
    let found = window(arena, text, &bounds)?.and_then(|window| {
        let at = match member {
            Member::Find | Member::Index => window.text.find(part),
            _ => window.text.rfind(part),
        };
        at.map(|at| window.start + window.text[..at].chars().count() as i64)
    });
    match (found, member) {
        (Some(at), _) => Ok(Value::Int(at)),
        (None, Member::Find | Member::Rfind) => Ok(Value::Int(-1)),
        (None, _) => Err(Exception::ValueError.into()),
    }
}

pub(super) fn count_text<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let [part, bounds @ ..] = bind_arguments(arguments, ["", "", ""], 1)?;
    let part = part.and_then(|part| part.text()).ok_or(Exception::TypeError)?;
    let count = window(arena, text, &bounds)?.map_or(0, |window| window.text.matches(part).count());
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// `startswith` and `endswith`, with one string or a tuple of them.
pub(super) fn affix<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    if let ([Value::Text(affix)], []) = (arguments.positional, arguments.keywords) {
        return has_affix(arena, text, affix, member).map(Value::Bool);
    }
    let [affix, bounds @ ..] = bind_arguments(arguments, ["", "", ""], 1)?;
    let window = window(arena, text, &bounds)?;
    let affix = affix.unwrap_or(Value::None);
    let affixes = match affix {
        Value::Tuple(affixes) => affixes,
        _ => std::slice::from_ref(&affix),
    };
    for affix in affixes {
        let affix = affix.text().ok_or(Exception::TypeError)?;
        if let Some(window) = &window
            && has_affix(arena, window.text, affix, member)?
        {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn has_affix(arena: &Arena<'_>, text: &str, affix: &str, member: Member) -> Result<bool> {
    arena.spend_bytes(affix.len().min(text.len()))?;
    Ok(match member {
        Member::StartsWith => text.starts_with(affix),
        _ => text.ends_with(affix),
    })
}

pub(super) fn split<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let [separator, limit] = bind_arguments(arguments, ["sep", "maxsplit"], 0)?;
    let limit = limit.map_or(Some(-1), |limit| limit.small_int()).ok_or(Exception::TypeError)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX - 1);
    arena.spend_bytes(text.len() * 8)?;
    // One part more than fits is enough to detect that the parts do not fit.
    let most = arena.most_items() + 1;
    let parts: Vec<&'a str> = match separator {
        None | Some(Value::None) => split_blanks(text, member, limit, most),
        Some(Value::Text("")) => return Err(Exception::ValueError.into()),
        Some(Value::Text(separator)) => match member {
            Member::Split => text.splitn(limit.saturating_add(1), separator).take(most).collect(),
            _ => {
                let parts = text.rsplitn(limit.saturating_add(1), separator).take(most);
                let mut parts: Vec<_> = parts.collect();
                parts.reverse();
                parts
            }
        },
        Some(_) => return Err(Exception::TypeError.into()),
    };
    texts(arena, parts)
}

fn texts<'a>(arena: &Arena<'a>, parts: Vec<&'a str>) -> Result<Value<'a>> {
    arena.check_items(parts.len())?;
    let parts: Vec<Value<'a>> = parts.into_iter().map(Value::Text).collect();
    arena.list(&parts)
}

pub(super) fn partition<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let [Value::Text(separator)] = arguments.positional else { return Err(Exception::TypeError.into()) };
    if separator.is_empty() {
        return Err(Exception::ValueError.into());
    }
    arena.spend_bytes(text.len())?;
    let (before, middle, after) = match member {
        Member::Partition => match text.split_once(separator) {
            Some((before, after)) => (before, *separator, after),
            None => (text, "", ""),
        },
        _ => match text.rsplit_once(separator) {
            Some((before, after)) => (before, *separator, after),
            None => ("", "", text),
        },
    };
    arena.tuple(&[Value::Text(before), Value::Text(middle), Value::Text(after)])
}

pub(super) fn split_lines<'a>(
    arena: &Arena<'a>,
    text: &'a str,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let [keep] = bind_arguments(arguments, ["keepends"], 0)?;
    let keep = keep.is_some_and(|keep| keep.truth());
    arena.spend_bytes(text.len() * 8)?;
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        arena.check_items(lines.len())?;
        let Some(end) = rest.find(is_line_end) else {
            lines.push(rest);
            break;
        };
        let length = if rest[end..].starts_with("\r\n") {
            2
        } else {
            rest[end..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep { end + length } else { end }]);
        rest = &rest[end + length..];
    }
    texts(arena, lines)
}

pub(super) fn bytes_method<'a>(
    arena: &Arena<'a>,
    bytes: &'a [u8],
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    arena.spend_bytes(bytes.len())?;
    match (member, arguments.positional) {
        (Member::Decode, []) | (Member::Decode, [Value::Text("utf-8" | "utf8" | "UTF-8" | "ascii")]) => {
            std::str::from_utf8(bytes).map(Value::Text).map_err(|_| Exception::ValueError.into())
        }
        (Member::Hex, []) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            arena.text(&hex)
        }
        (Member::IsAscii, []) => Ok(Value::Bool(bytes.is_ascii())),
        (Member::Lower, []) => arena.alloc_bytes(&bytes.to_ascii_lowercase()).map(Value::Bytes),
        (Member::Upper, []) => arena.alloc_bytes(&bytes.to_ascii_uppercase()).map(Value::Bytes),
        (Member::StartsWith, [Value::Bytes(part)]) => Ok(Value::Bool(bytes.starts_with(part))),
        (Member::EndsWith, [Value::Bytes(part)]) => Ok(Value::Bool(bytes.ends_with(part))),
        (Member::Find, [Value::Bytes(part)]) => {
            Ok(Value::Int(memchr::memmem::find(bytes, part).map_or(-1, |at| at as i64)))
        }
        (Member::Count, [byte]) if byte.small_int().is_some() => {
            let count = bytes.iter().filter(|known| Some(i64::from(**known)) == byte.small_int()).count();
            Ok(Value::Int(count as i64))
        }
        (Member::Count, [Value::Bytes([])]) => Ok(Value::Int(bytes.len() as i64 + 1)),
        (Member::Count, [Value::Bytes(part)]) => {
            Ok(Value::Int(memchr::memmem::find_iter(bytes, part).count() as i64))
        }
        _ => Err(Exception::TypeError.into()),
    }
}

fn is_line_end(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Splits at whitespace. Once the limit is reached the remainder stays one part, including
/// whitespace at its other end. Returns at most `most` parts.
fn split_blanks(text: &str, member: Member, limit: usize, most: usize) -> Vec<&str> {
    let forward = member == Member::Split;
    let mut parts = Vec::new();
    let mut rest = trimmed(text, forward);
    while !rest.is_empty() && parts.len() < most {
        let cut = if forward { rest.find(is_space) } else { rest.rfind(is_space) };
        let Some(at) = cut.filter(|_| parts.len() < limit) else {
            parts.push(rest);
            break;
        };
        let blank = rest[at..].chars().next().map_or(1, char::len_utf8);
        let (word, remainder) =
            if forward { (&rest[..at], &rest[at..]) } else { (&rest[at + blank..], &rest[..at]) };
        parts.push(word);
        rest = trimmed(remainder, forward);
    }
    if !forward {
        parts.reverse();
    }
    parts
}

fn trimmed(text: &str, forward: bool) -> &str {
    if forward { text.trim_start_matches(is_space) } else { text.trim_end_matches(is_space) }
}
