//! Patterns of `LIKE`: `%` stands for any text, `_` for one character.

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
        let text: Vec<char> = text.chars().collect();
        let fits = |piece: &[Option<char>], at: usize| {
            text.get(at..at + piece.len()).is_some_and(|part| {
                part.iter().zip(piece).all(|(letter, wanted)| wanted.is_none_or(|wanted| wanted == *letter))
            })
        };
        let Some((first, rest)) = self.pieces.split_first() else { return text.is_empty() };
        let Some((last, middle)) = rest.split_last() else {
            return text.len() == first.len() && fits(first, 0);
        };
        let Some(last_at) = text.len().checked_sub(last.len()) else { return false };
        if !fits(first, 0) || !fits(last, last_at) {
            return false;
        }
        let mut at = first.len();
        for piece in middle {
            // The first match is the best: it leaves the most text for the other pieces.
            match (at..=last_at.saturating_sub(piece.len())).find(|at| fits(piece, *at)) {
                Some(found) => at = found + piece.len(),
                None => return false,
            }
        }
        at <= last_at
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
        ] {
            matching.iter().for_each(|text| check(pattern, text, true));
            others.iter().for_each(|text| check(pattern, text, false));
        }
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
