//! Text of servers, which ends in logs, exceptions and on terminals of users.

/// Escapes control characters, which terminals obey, and characters that change the direction of the text.
/// Tabs and the ends of lines are kept.
pub(crate) fn plain_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        let is_direction = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_direction || (character.is_control() && !matches!(character, '\t' | '\n')) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_75_text_of_a_server_has_no_control_characters() {
        let text = "no\tä\n\r\u{1b}[2J\u{9b}1A\u{202e}x";
        assert_eq!(plain_text(text), "no\tä\n\\r\\u{1b}[2J\\u{9b}1A\\u{202e}x");
        assert_eq!(plain_text(&plain_text(text)), plain_text(text));
    }
}
