//! Patterns of `LIKE`: `%` stands for any text, `_` for one character. There are no escapes: `\` stands for itself.

use std::collections::HashMap;

/// A pattern in pieces: the texts between its `%`. In a piece, `None` stands for any character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Vec<Vec<Option<char>>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let piece = |piece: &str| piece.chars().map(|letter| (letter != '_').then_some(letter)).collect();
        Self { pieces: text.split('%').map(piece).collect() }
    }

    /// Returns whether a text has the form of the pattern.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else { return text.is_empty() };
        let Some(text) = after_beginning(text, first) else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        let Some(text) = before_end(text, last) else { return false };
        // The first place of a piece is the best: it leaves the most text for the other pieces.
        middle.iter().try_fold(text, |text, piece| after_first(text, piece)).is_some()
    }

    /// A condition of MatyanQL on the text of the expression `value`: true for the texts that match, except that a `_`
    /// after another character of a piece between two `%` stands for itself only.
    pub(crate) fn query(&self, value: &str) -> String {
        let Some((first, rest)) = self.pieces.split_first() else { return format!("{value} == ''") };
        let Some((last, middle)) = rest.split_last() else {
            return match literal(first) {
                Some(text) => format!("{value} == {}", quote(&text)),
                None => {
                    conjunction(std::iter::once(format!("len({value}) == {}", first.len())), value, first, 0)
                }
            };
        };
        let least: usize = self.pieces.iter().map(Vec::len).sum();
        let mut conditions = Vec::new();
        if least > 0 {
            conditions.push(format!("len({value}) >= {least}"));
        }
        conditions.extend(at_beginning(value, first));
        conditions.extend(at_end(value, last));
        if !middle.is_empty() {
            conditions.extend(in_between(value, first.len(), middle, last.len()));
        }
        if conditions.is_empty() { format!("{value} is not None") } else { conditions.join(" and ") }
    }
}

fn fits(letter: char, wanted: Option<char>) -> bool {
    wanted.is_none_or(|wanted| wanted == letter)
}

/// Strips a piece from the beginning of a text; `None` if the text begins with something else.
fn after_beginning<'t>(text: &'t str, piece: &[Option<char>]) -> Option<&'t str> {
    let mut letters = text.chars();
    for wanted in piece {
        letters.next().filter(|letter| fits(*letter, *wanted))?;
    }
    Some(letters.as_str())
}

/// Strips a piece from the end of a text; `None` if the text ends with something else.
fn before_end<'t>(text: &'t str, piece: &[Option<char>]) -> Option<&'t str> {
    let mut letters = text.chars();
    for wanted in piece.iter().rev() {
        letters.next_back().filter(|letter| fits(*letter, *wanted))?;
    }
    Some(letters.as_str())
}

/// Returns the text after the first match of a piece; `None` if nothing in the text matches. A text and a piece that are
/// both repetitive take no longer: the standard library finds a text in linear time.
fn after_first<'t>(text: &'t str, piece: &[Option<char>]) -> Option<&'t str> {
    // Each character has at least one byte. The bits of a long piece take longer to set than a short text to read.
    if text.len() < piece.len() {
        return None;
    }
    match literal(piece) {
        Some(literal) => text.split_once(literal.as_str()).map(|(_, rest)| rest),
        None => PieceBits::new(piece).after_first(text),
    }
}

/// A piece with wildcards, for the shift-and algorithm: each letter of a text takes one step for every 64 characters of the
/// piece. A regular expression would take one for each character of the piece.
struct PieceBits {
    /// The last character of the piece: its word, and its bit.
    last: (usize, u64),
    /// The places of wildcards.
    wildcards: Vec<u64>,
    /// The places that fit each letter of the piece.
    places: HashMap<char, Vec<u64>>,
}

impl PieceBits {
    fn new(piece: &[Option<char>]) -> Self {
        let bit = |at: usize| (at / 64, 1_u64 << (at % 64));
        let mut wildcards = vec![0_u64; piece.len().div_ceil(64)];
        for (at, _) in piece.iter().enumerate().filter(|(_, wanted)| wanted.is_none()) {
            let (word, bit) = bit(at);
            wildcards[word] |= bit;
        }
        let mut places: HashMap<char, Vec<u64>> = HashMap::new();
        for (at, wanted) in piece.iter().enumerate() {
            let (word, bit) = bit(at);
            if let Some(letter) = wanted {
                places.entry(*letter).or_insert_with(|| wildcards.clone())[word] |= bit;
            }
        }
        Self { last: bit(piece.len().saturating_sub(1)), wildcards, places }
    }

    /// Returns the text after the first match of the piece.
    fn after_first<'t>(&self, text: &'t str) -> Option<&'t str> {
        // A bit is set if the letters so far end with the piece up to its place.
        let mut begun = vec![0_u64; self.wildcards.len()];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let places = self.places.get(&letter).unwrap_or(&self.wildcards);
            let mut carry = 1;
            for (begun, fitting) in begun.iter_mut().zip(places) {
                let shifted = (*begun << 1) | carry;
                carry = *begun >> 63;
                *begun = shifted & *fitting;
            }
            let (word, bit) = self.last;
            if begun[word] & bit != 0 {
                return Some(letters.as_str());
            }
        }
        None
    }
}

/// The text of a piece without wildcards.
fn literal(piece: &[Option<char>]) -> Option<String> {
    piece.iter().copied().collect()
}

/// A text as a literal of MatyanQL.
pub(crate) fn quote(text: &str) -> String {
    let mut literal = String::from("'");
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => literal.extend(['\\', letter]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            letter if letter.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => literal.push(letter),
        }
    }
    literal.push('\'');
    literal
}

/// The conditions on the characters of a piece that are not wildcards, by their places.
fn fixed_parts(value: &str, piece: &[Option<char>], start: impl Fn(usize) -> String) -> Vec<String> {
    let mut conditions = Vec::new();
    let mut at = 0;
    while at < piece.len() {
        let run: String = piece[at..].iter().map_while(|letter| *letter).collect();
        let length = run.chars().count();
        if length > 0 {
            conditions.push(format!("{value}[{}:{}] == {}", start(at), start(at + length), quote(&run)));
        }
        at += length.max(1);
    }
    conditions
}

fn conjunction(
    first: impl Iterator<Item = String>,
    value: &str,
    piece: &[Option<char>],
    offset: usize,
) -> String {
    let parts = fixed_parts(value, piece, |at| (offset + at).to_string());
    first.chain(parts).collect::<Vec<_>>().join(" and ")
}

fn at_beginning(value: &str, piece: &[Option<char>]) -> Vec<String> {
    match literal(piece) {
        Some(text) if text.is_empty() => Vec::new(),
        Some(text) => vec![format!("{value}.startswith({})", quote(&text))],
        None => fixed_parts(value, piece, |at| at.to_string()),
    }
}

fn at_end(value: &str, piece: &[Option<char>]) -> Vec<String> {
    match literal(piece) {
        Some(text) if text.is_empty() => Vec::new(),
        Some(text) => vec![format!("{value}.endswith({})", quote(&text))],
        None => fixed_parts(value, piece, |at| format!("len({value}) - {}", piece.len() - at)),
    }
}

/// The conditions that pieces follow each other between the first and the last piece. MatyanQL finds texts without
/// wildcards, so a `_` after another character of its piece stands for itself here. MLflow's own client searches for the
/// names of files like that. A `_` at the beginning of a piece moves the place from which the rest is searched.
fn in_between(value: &str, begin: usize, middle: &[Vec<Option<char>>], end: usize) -> Vec<String> {
    let mut conditions = Vec::new();
    let mut found: Option<FoundPiece> = None;
    let mut wildcards = 0;
    for piece in middle {
        let text: String = piece.iter().skip_while(|it| it.is_none()).map(|it| it.unwrap_or('_')).collect();
        let length = text.chars().count();
        wildcards += piece.len() - length;
        if text.is_empty() {
            continue;
        }
        let from = match found {
            None => (begin + wildcards).to_string(),
            Some(before) => before.after(wildcards),
        };
        let place = format!("place{}", conditions.len());
        conditions
            .push(format!("({place} := {value}.find({}, {from}, len({value}) - {end})) >= 0", quote(&text)));
        found = Some(FoundPiece { place, length });
        wildcards = 0;
    }
    if let Some(last) = found
        && wildcards > 0
    {
        conditions.push(format!("{} <= len({value}) - {end}", last.after(wildcards)));
    }
    conditions
}

/// A piece that a condition finds.
struct FoundPiece {
    /// The variable with the place of the piece.
    place: String,
    length: usize,
}

impl FoundPiece {
    /// The place that is this number of characters after the piece.
    fn after(&self, characters: usize) -> String {
        format!("{} + {}", self.place, self.length + characters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_texts() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        };
        for (pattern, matching, others) in [
            ("abc", &["abc"][..], &["ab", "abcd", ""][..]),
            ("a%", &["a", "abc"], &["", "ba"]),
            ("%a", &["a", "ba"], &["ab"]),
            ("%b%", &["b", "abc"], &["ac", ""]),
            ("a_c", &["abc", "aäc"], &["ac", "abbc"]),
            ("a%b%c", &["abc", "axxbxxc"], &["acb", "ac"]),
            ("a%a", &["aa", "aba"], &["a"]),
            ("_%_", &["ab", "abc"], &["a", ""]),
            ("%", &["", "a"], &[]),
            ("", &[""], &["a"]),
            ("%a%a%", &["aa", "xaxax"], &["a"]),
            ("%a_c%", &["abc", "xaacx", "aaäcx"], &["ac", "acb"]),
            ("%_b%b_%", &["abbc", "xbxxbx"], &["bbb", "abb", "abc"]),
            ("%_%_%", &["ab", "äöü"], &["a", "ä", ""]),
            ("a%ab%b", &["aabb", "axabxb"], &["aab", "abb", "ab"]),
            ("%%a%%", &["a", "bab"], &["b", ""]),
            ("a\\%", &["a\\", "a\\b"], &["a%", "a"]),
            ("A%", &["Ab"], &["ab"]),
        ] {
            matching.iter().for_each(|text| check(pattern, text, true));
            others.iter().for_each(|text| check(pattern, text, false));
        }
    }

    #[test]
    fn a_long_piece_with_wildcards_is_found() {
        for length in [63, 64, 65, 128, 200] {
            let piece: String = (0..length).map(|at| if at % 7 == 3 { '_' } else { 'a' }).collect();
            let pattern = Pattern::new(&format!("%{piece}b%"));
            let letters = "a".repeat(length);
            assert!(pattern.matches(&format!("{letters}{letters}b")), "{length}");
            assert!(pattern.matches(&format!("{}b", piece.replace('_', "ä"))), "{length}");
            for other in [format!("{}b", &letters[1..]), letters.clone(), "b".repeat(2 * length)] {
                assert!(!pattern.matches(&other), "{length} {other}");
            }
        }
    }

    /// Each place in the text would otherwise be compared with most of the piece.
    #[test]
    fn repetitions_do_not_multiply_the_time_of_a_match() {
        let text = "a".repeat(100_000);
        for piece in ["a".repeat(4_000), "aaa_".repeat(1_000)] {
            assert!(!Pattern::new(&format!("%{piece}b%")).matches(&text));
            assert!(Pattern::new(&format!("%{piece}%")).matches(&text));
        }
    }

    /// A search compares the texts of many models with one pattern.
    #[test]
    fn short_texts_are_compared_with_a_long_piece_in_little_time() {
        let letters: String = ('\u{4e00}'..='\u{5dff}').collect();
        let pattern = Pattern::new(&format!("%{letters}_%"));
        assert!((0..50_000).all(|_| !pattern.matches("a short description")));
        assert!(pattern.matches(&format!("x{letters}y")));
    }

    #[test]
    fn patterns_become_conditions() {
        let check = |pattern: &str, expected: &str| {
            assert_eq!(Pattern::new(pattern).query("v"), expected, "{pattern}");
        };
        check("abc", "v == 'abc'");
        check("it's\n", "v == 'it\\'s\\n'");
        check("a%", "len(v) >= 1 and v.startswith('a')");
        check("%a", "len(v) >= 1 and v.endswith('a')");
        check("%", "v is not None");
        check("a_c", "len(v) == 3 and v[0:1] == 'a' and v[2:3] == 'c'");
        check("run_%", "len(v) >= 4 and v[0:3] == 'run'");
        check("%_x", "len(v) >= 2 and v[len(v) - 1:len(v) - 0] == 'x'");
        check(
            "a%b%c",
            "len(v) >= 3 and v.startswith('a') and v.endswith('c') and (place0 := v.find('b', 1, len(v) - 1)) >= 0",
        );
        check("%a_b%", "len(v) >= 3 and (place0 := v.find('a_b', 0, len(v) - 0)) >= 0");
        check("%_%", "len(v) >= 1");
        check("%_a%", "len(v) >= 2 and (place0 := v.find('a', 1, len(v) - 0)) >= 0");
        check(
            "a%_%_b%__%c",
            "len(v) >= 7 and v.startswith('a') and v.endswith('c') and (place0 := v.find('b', 3, len(v) - 1)) >= 0 \
             and place0 + 3 <= len(v) - 1",
        );
    }
}
