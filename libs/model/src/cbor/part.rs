//! Parts of encoded maps, copied as they lie: a search shows a few params of thousands of runs, or all but some.

use std::{borrow::Cow, cmp::Ordering};

use minicbor::Encoder;

use super::{CborError, MAP, TEXT, cut_off, head, length};

/// The map without one of its keys.
pub fn without<'b>(bytes: &'b [u8], key: &str) -> Result<Cow<'b, [u8]>, CborError> {
    let mut entries = Entries::of(bytes).ok_or_else(cut_off)?;
    let (count, first) = (entries.left, entries.at);
    while let Some(entry) = entries.next().ok_or_else(cut_off)? {
        entries.pass().ok_or_else(cut_off)?;
        match entry.key.cmp(key.as_bytes()) {
            Ordering::Less => {}
            Ordering::Equal => {
                let mut out = Vec::with_capacity(bytes.len());
                put_head(&mut out, count - 1);
                out.extend_from_slice(&bytes[first..entry.at]);
                out.extend_from_slice(&bytes[entries.at..]);
                return Ok(out.into());
            }
            // Keys are sorted.
            Ordering::Greater => break,
        }
    }
    Ok(bytes.into())
}

/// What the map holds at some places, which are sorted and have a key at least; where there is nothing, nothing is said of it.
pub fn pick(bytes: &[u8], places: &[&[String]]) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    pick_into(bytes, places, 0, &mut out).ok_or_else(cut_off)?;
    Ok(out)
}

/// The same of places that have the first `depth` keys in common. Tells how many entries the map has that was written.
fn pick_into(bytes: &[u8], mut places: &[&[String]], depth: usize, out: &mut Vec<u8>) -> Option<u64> {
    let mut entries = Entries::of(bytes)?;
    let (start, mut count) = (out.len(), 0);
    while let Some(entry) = entries.next()? {
        let is_before = |place: &&&[String]| place[depth].as_bytes() < entry.key;
        places = &places[places.iter().take_while(is_before).count()..];
        let is_here = |place: &&&[String]| place[depth].as_bytes() == entry.key;
        let (here, behind) = places.split_at(places.iter().take_while(is_here).count());
        places = behind;
        match here.first() {
            None if places.is_empty() => break,
            None => entries.pass()?,
            Some(place) if place.len() == depth + 1 => {
                entries.pass()?;
                out.extend_from_slice(&bytes[entry.at..entries.at]);
                count += 1;
            }
            Some(_) => {
                let before = out.len();
                out.extend_from_slice(&bytes[entry.at..entry.value]);
                match pick_into(&bytes[entry.value..], here, depth + 1, out)? {
                    0 => out.truncate(before),
                    _ => count += 1,
                }
                if places.is_empty() {
                    break;
                }
                entries.pass()?;
            }
        }
    }
    let mut written = Vec::with_capacity(9);
    put_head(&mut written, count);
    out.splice(start..start, written);
    Some(count)
}

fn put_head(out: &mut Vec<u8>, entries: u64) {
    Encoder::new(out).map(entries).expect("writing to memory does not fail");
}

/// The entries of a map; none of anything else. Behind a key its value is passed before the next key is taken.
struct Entries<'b> {
    bytes: &'b [u8],
    left: u64,
    at: usize,
}

struct Entry<'b> {
    key: &'b [u8],
    at: usize,
    value: usize,
}

impl<'b> Entries<'b> {
    /// `None` of what is not well-formed.
    fn of(bytes: &'b [u8]) -> Option<Self> {
        let (major, entries, at) = head(bytes)?;
        Some(Self { bytes, left: if major == MAP { entries } else { 0 }, at })
    }

    fn next(&mut self) -> Option<Option<Entry<'b>>> {
        if self.left == 0 {
            return Some(None);
        }
        let at = self.at;
        let (major, size, header) = head(self.bytes.get(at..)?)?;
        let value = (at + header).checked_add(usize::try_from(size).ok()?)?;
        let key = self.bytes.get(at + header..value).filter(|_| major == TEXT)?;
        self.at = value;
        self.left -= 1;
        Some(Some(Entry { key, at, value }))
    }

    fn pass(&mut self) -> Option<()> {
        self.at += length(self.bytes.get(self.at..)?)?;
        Some(())
    }
}
