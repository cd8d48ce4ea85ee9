//! Text of servers, which ends in logs, exceptions and on terminals of users.

/// Longest text that is kept of a message about a server.
const LINE_BYTES: usize = 2 << 10;

/// The beginning of a text as one line of a log: the ends of lines in it are escaped too.
pub(crate) fn plain_line(text: &str) -> String {
    let start = &text[..text.floor_char_boundary(LINE_BYTES)];
    let mut line = plain_text(start).replace('\n', "\\n");
    if start.len() < text.len() || line.len() > LINE_BYTES {
        let end = '\u{2026}';
        line.truncate(line.floor_char_boundary(LINE_BYTES - end.len_utf8()));
        line.push(end);
    }
    line
}

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

    #[test]
    fn rule_75_a_line_about_a_server_is_short_and_has_no_ends_of_lines() {
        assert_eq!(plain_line("no\n\u{1b}[2J\tx"), "no\\n\\u{1b}[2J\tx");
        for text in ["x".repeat(LINE_BYTES + 1), "\u{1b}".repeat(LINE_BYTES), "\u{e9}".repeat(10 << 20)] {
            let line = plain_line(&text);
            assert!((LINE_BYTES - 4..=LINE_BYTES).contains(&line.len()), "{}", line.len());
            assert!(line.ends_with('\u{2026}'), "{line}");
            assert_eq!(plain_line(&line), line);
        }
        let longest = "x".repeat(LINE_BYTES);
        assert_eq!(plain_line(&longest), longest);
    }
}
