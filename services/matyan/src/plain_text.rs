//! Text that is safe for terminals and logs, whatever its author put in it.

/// The treatment of commands that change colors: `ESC [`, numbers, `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colors {
    Kept,
    Escaped,
}

/// Escapes control and direction characters, except newlines.
pub(crate) fn plain_text(text: &str) -> String {
    escape(text, Colors::Escaped, |character| character == '\n')
}

/// Escapes control characters, which terminals obey, and characters that change the direction of the text,
/// unless `is_kept` says otherwise.
pub(crate) fn escape(text: &str, colors: Colors, is_kept: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let color = if colors == Colors::Kept { color_length(rest) } else { None };
        let (first, others) = rest.split_at(color.unwrap_or(character.len_utf8()));
        let is_plain = !character.is_control() && !is_direction(character);
        if color.is_some() || is_plain || is_kept(character) {
            plain.push_str(first);
        } else {
            plain.extend(character.escape_default());
        }
        rest = others;
    }
    plain
}

/// Length of the color command at the start of the text.
fn color_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.find(|it: char| !it.is_ascii_digit() && !";:".contains(it))?;
    parameters[length..].starts_with('m').then_some("\u{1b}[".len() + length + 1)
}

/// Returns whether a character changes the direction of the text after it.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
