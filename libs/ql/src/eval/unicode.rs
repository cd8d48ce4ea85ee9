//! Python's classification of characters where it differs from Rust's: general categories decide
//! `isalpha`, `isdigit` and the escapes of `repr`. The tables of the standard library and of
//! `unicode-properties` are used; only irregular cases are listed here.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Returns the value of a decimal digit of any script.
pub(super) fn decimal(character: char) -> Option<u32> {
    if character.is_ascii() {
        return character.to_digit(10);
    }
    if character.general_category() != GeneralCategory::DecimalNumber {
        return None;
    }
    // Digits form runs of ten that start with zero; some runs are adjacent.
    let code = u32::from(character);
    let before = (1..).take_while(|back| is_decimal_code(code - back)).count();
    u32::try_from(before % 10).ok()
}

fn is_decimal_code(code: u32) -> bool {
    char::from_u32(code).is_some_and(|c| c.general_category() == GeneralCategory::DecimalNumber)
}

/// Digits that are not decimal, such as superscripts and circled digits.
fn is_other_digit(character: char) -> bool {
    const RANGES: [(u32, u32); 20] = [
        (0xb2, 0xb3),
        (0xb9, 0xb9),
        (0x1369, 0x1371),
        (0x19da, 0x19da),
        (0x2070, 0x2070),
        (0x2074, 0x2079),
        (0x2080, 0x2089),
        (0x2460, 0x2468),
        (0x2474, 0x247c),
        (0x2488, 0x2490),
        (0x24ea, 0x24ea),
        (0x24f5, 0x24fd),
        (0x24ff, 0x24ff),
        (0x2776, 0x277e),
        (0x2780, 0x2788),
        (0x278a, 0x2792),
        (0x10a40, 0x10a43),
        (0x10e60, 0x10e68),
        (0x11052, 0x1105a),
        (0x1f100, 0x1f10a),
    ];
    RANGES.iter().any(|&(low, high)| (low..=high).contains(&u32::from(character)))
}

pub(super) fn is_decimal(character: char) -> bool {
    decimal(character).is_some()
}

pub(super) fn is_digit(character: char) -> bool {
    is_decimal(character) || is_other_digit(character)
}

pub(super) fn is_numeric(character: char) -> bool {
    // Han numerals are letters by category but numbers by value.
    const HAN: &str = "一二三四五六七八九十百千万亿兆零〇";
    character.general_category_group() == GeneralCategoryGroup::Number || HAN.contains(character)
}

pub(super) fn is_alpha(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Letter
}

pub(super) fn is_alnum(character: char) -> bool {
    is_alpha(character) || is_numeric(character) || is_digit(character)
}

pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

pub(super) fn is_title(character: char) -> bool {
    character.general_category() == GeneralCategory::TitlecaseLetter
}

pub(super) fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase() || is_title(character)
}

pub(super) fn is_printable(character: char) -> bool {
    character == ' '
        || !matches!(
            character.general_category_group(),
            GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other
        )
}

/// Folds the case of a string for caseless comparison.
pub(super) fn casefold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // The dotless i must not become a dotted one.
            'ı' => folded.push(character),
            // Cherokee folds to uppercase because its lowercase letters were added to Unicode
            // later.
            '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => folded.extend(character.to_uppercase()),
            _ => folded.extend(character.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    folded
}

/// Appends a character in title case: for a letter that expands to two, only the first is a
/// capital.
pub(super) fn push_title(text: &mut String, character: char) {
    match character {
        // These digraphs have title case forms of their own.
        '\u{1c4}'..='\u{1c6}' => text.push('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => text.push('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => text.push('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => text.push('\u{1f2}'),
        // Georgian letters have no separate title case.
        '\u{10d0}'..='\u{10ff}' => text.push(character),
        _ => {
            let mut capitals = character.to_uppercase();
            text.extend(capitals.next());
            text.extend(capitals.flat_map(char::to_lowercase));
        }
    }
}
