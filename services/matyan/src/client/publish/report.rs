//! The text of a report, as far as a copy has to know its panels and pictures. The web UI reads it in
//! `ui/src/parts/markdown.ts`, and notebooks in `_report.py` of the Python SDK.

use percent_encoding::percent_decode_str;

const FENCE: &str = "```";
const FORMULA: &str = "$$";
const QUOTE: char = '>';
/// The start of a row of a table, and of each of its cells.
const ROW: char = '|';
/// The marks around code, formulas and emphasized words, the longest first.
const MARKS: [&str; 6] = ["`", "$", "**", "__", "*", "_"];

/// A report in parts.
#[derive(Debug, Default)]
pub(super) struct ReportText {
    pub(super) code: Vec<ReportCode>,
    /// The texts of headings, paragraphs, quotes, items of lists and cells of tables.
    texts: Vec<String>,
}

/// Code between fences.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReportCode {
    pub(super) language: String,
    pub(super) lines: Vec<String>,
}

/// A picture of a report: the artifact of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) run_id: String,
    pub(super) path: String,
}

impl ReportText {
    pub(super) fn parse(report: &str) -> Self {
        let report = report.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines = report.split('\n').peekable();
        let mut text = Self::default();
        while let Some(line) = lines.next() {
            let start = line.trim_start();
            if start.is_empty() || is_rule(line) {
                continue;
            }
            if let Some(language) = start.strip_prefix(FENCE) {
                let language = language.split_whitespace().next().unwrap_or_default().to_owned();
                let code = lines.by_ref().take_while(|line| line.trim() != FENCE);
                text.code.push(ReportCode { language, lines: code.map(str::to_owned).collect() });
            } else if let Some(formula) = start.strip_prefix(FORMULA) {
                let mut is_open = !formula.trim_end().ends_with(FORMULA);
                while is_open && let Some(line) = lines.next() {
                    is_open = !line.contains(FORMULA);
                }
            } else if is_item(line) {
                text.texts.push(start.to_owned());
                // Code that is indented below an item of a list is a part of the item.
                while let Some(own) = lines.next_if(|own| is_item(own) || is_indented(own)) {
                    if is_item(own) {
                        text.texts.push(own.trim_start().to_owned());
                    } else {
                        text.continue_last(' ', own.trim());
                    }
                }
            } else if let Some(quote) = line.strip_prefix(QUOTE) {
                text.texts.push(quote.to_owned());
                while let Some(own) = lines.next_if(|own| own.starts_with(QUOTE)) {
                    text.continue_last(' ', own.trim_start_matches(QUOTE));
                }
            } else if line.starts_with(ROW) {
                text.texts.extend(cells_of(line));
            } else {
                text.texts.push(line.to_owned());
                let is_paragraph = !is_heading(line);
                while is_paragraph && let Some(own) = lines.next_if(|own| !is_beginning(own)) {
                    text.continue_last('\n', own);
                }
            }
        }
        text
    }

    /// Adds a line to the last text.
    fn continue_last(&mut self, separator: char, line: &str) {
        if let Some(last) = self.texts.last_mut() {
            last.push(separator);
            last.push_str(line);
        }
    }

    pub(super) fn pictures(&self) -> Vec<Picture> {
        self.texts.iter().flat_map(|text| pictures_in(text)).collect()
    }
}

/// The pictures that a text shows. Code, formulas, emphasized words and titles of links show none.
fn pictures_in(text: &str) -> Vec<Picture> {
    let mut pictures = Vec::new();
    let mut rest = text;
    let mut is_after_word = false;
    while let Some(first) = rest.chars().next() {
        let link = link_at(rest);
        if let Some((_, address)) = link
            && first == '!'
        {
            pictures.extend(picture_of(address));
        }
        let length = link.map(|(length, _)| length).or_else(|| marked_length(rest, is_after_word));
        let (own, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        is_after_word = own.ends_with(is_word_char);
        rest = after;
    }
    pictures
}

/// The number of bytes of the link or the picture at the start of a text, and its address.
fn link_at(text: &str) -> Option<(usize, &str)> {
    let title = text.strip_prefix('!').unwrap_or(text).strip_prefix('[')?;
    let (_, rest) = title.split_once(']')?;
    let (address, after) = rest.strip_prefix('(')?.split_once(')')?;
    let is_address = !address.is_empty() && !address.contains('(') && !address.contains(char::is_whitespace);
    is_address.then_some((text.len() - after.len(), address))
}

/// The number of bytes of the code, the formula or the emphasized words at the start of a text.
fn marked_length(text: &str, is_after_word: bool) -> Option<usize> {
    MARKS.into_iter().find_map(|mark| {
        let (inner, after) = text.strip_prefix(mark)?.split_once(mark)?;
        let is_marked = match mark {
            "$" => {
                let is_price = after.starts_with(|char: char| char.is_ascii_digit());
                inner.trim() == inner && !inner.contains('\n') && !is_price
            }
            "**" | "__" => !inner.contains('\n'),
            "*" => !inner.starts_with(char::is_whitespace),
            "_" => !is_after_word && !after.starts_with(is_word_char),
            _ => true,
        };
        (is_marked && !inner.is_empty()).then_some(text.len() - after.len())
    })
}

fn is_word_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The picture with an address.
fn picture_of(address: &str) -> Option<Picture> {
    let (run_id, path) = address.strip_prefix("artifact:")?.split_once('/')?;
    if run_id.is_empty() || path.is_empty() || !path.split('%').skip(1).all(starts_with_two_digits) {
        return None;
    }
    let path = percent_decode_str(path).decode_utf8().ok()?.into_owned();
    Some(Picture { run_id: run_id.to_owned(), path })
}

/// Whether a text starts with two hexadecimal digits, as after the `%` of an escaped byte.
fn starts_with_two_digits(text: &str) -> bool {
    text.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2
}

/// The cells of a row of a table. A `|` after a backslash is part of its cell.
fn cells_of(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    for part in row.split(ROW) {
        match cells.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(ROW);
                last.push_str(part);
            }
            _ => cells.push(part.to_owned()),
        }
    }
    cells
}

/// Whether a line ends the paragraph above it.
fn is_beginning(line: &str) -> bool {
    let start = line.trim_start();
    start.is_empty()
        || [FENCE, FORMULA].into_iter().any(|mark| start.starts_with(mark))
        || line.starts_with([QUOTE, ROW])
        || is_heading(line)
        || is_item(line)
        || is_rule(line)
}

fn is_heading(line: &str) -> bool {
    let title = line.trim_start_matches('#');
    matches!(line.len() - title.len(), 1..=6) && title.starts_with(char::is_whitespace)
}

/// Whether a line begins with the mark of an item of a list.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let after_number = line.trim_start_matches(|char: char| char.is_ascii_digit());
    let mark = if after_number.len() < line.len() {
        after_number.strip_prefix(['.', ')'])
    } else {
        line.strip_prefix(['-', '*', '+'])
    };
    mark.is_some_and(|text| text.starts_with(char::is_whitespace))
}

fn is_rule(line: &str) -> bool {
    let marks: Vec<char> = line.chars().filter(|char| !char.is_whitespace()).collect();
    let is_mark = matches!(marks.first(), Some('-' | '*' | '_'));
    is_mark && marks.len() > 2 && marks.iter().all(|mark| *mark == marks[0])
}

fn is_indented(line: &str) -> bool {
    line.starts_with(char::is_whitespace) && !line.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages(report: &str) -> Vec<String> {
        ReportText::parse(report).code.into_iter().map(|code| code.language).collect()
    }

    #[test]
    fn code_in_lists_and_formulas_is_no_code_of_the_report() {
        assert_eq!(languages("```chart\na\n```\n  ``` runs x\n```"), ["chart", "runs"]);
        assert_eq!(languages("- item\n  ```chart\n  ```\n\n```runs"), ["runs"]);
        assert_eq!(languages("12) item\n```chart\n```"), ["chart"]);
        assert_eq!(languages("- - -\n  ```chart\n  ```"), ["chart"]);
        assert_eq!(languages("$$\n```chart\n$$ x\n```runs"), ["runs"]);
        assert_eq!(languages("$$ x $$\n```chart"), ["chart"]);
        assert_eq!(languages("text\r```chart\r```\r\n```"), ["chart", ""]);
    }

    #[test]
    fn pictures_are_artifacts_with_a_title() {
        let pictures = |text: &str| ReportText::parse(text).pictures();
        let expected = Picture { run_id: "3fd1".to_owned(), path: "a b/c+d.png".to_owned() };
        assert_eq!(pictures("x ![a](artifact:3fd1/a%20b/c+d.png) y"), [expected]);
        for other in [
            "[a](artifact:3fd1/a.png)",
            "![a](artifact:3fd1/)",
            "![a](artifact:/a.png)",
            "![a](artifact:3fd1/%2)",
            "![a](artifact:3fd1/%ff)",
            "![a](artifact:3fd1/a b.png)",
            "![a](b.png)",
            "```text\n![a](artifact:3fd1/a.png)\n```",
            "Write `![a](artifact:3fd1/a.png)`.",
        ] {
            assert!(pictures(other).is_empty(), "{other}");
        }
    }
}
