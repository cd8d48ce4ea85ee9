//! The text of a report, as far as a copy has to know its panels and pictures. The web UI reads it in
//! `ui/src/parts/markdown.ts`.

use percent_encoding::percent_decode_str;

const FENCE: &str = "```";
const FORMULA: &str = "$$";
const PICTURE: &str = "![";

/// A report in parts.
#[derive(Debug, Default)]
pub(super) struct ReportText {
    pub(super) code: Vec<ReportCode>,
    /// The other lines, without formulas.
    prose: String,
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
            if let Some(language) = start.strip_prefix(FENCE) {
                let language = language.split_whitespace().next().unwrap_or_default().to_owned();
                let code = lines.by_ref().take_while(|line| line.trim() != FENCE);
                text.code.push(ReportCode { language, lines: code.map(str::to_owned).collect() });
            } else if let Some(formula) = start.strip_prefix(FORMULA) {
                let mut is_open = !formula.trim_end().ends_with(FORMULA);
                while is_open && let Some(line) = lines.next() {
                    is_open = !line.contains(FORMULA);
                }
            } else {
                text.add_prose(line);
                // Code that is indented below an item of a list is a part of the item.
                let is_list = is_item(line) && !is_rule(line);
                while is_list && let Some(own) = lines.next_if(|own| is_item(own) || is_indented(own)) {
                    text.add_prose(own);
                }
            }
        }
        text
    }

    fn add_prose(&mut self, line: &str) {
        self.prose.push_str(line);
        self.prose.push('\n');
    }

    pub(super) fn pictures(&self) -> Vec<Picture> {
        self.prose.split(PICTURE).skip(1).filter_map(picture_of).collect()
    }
}

/// The picture whose title begins a text.
fn picture_of(text: &str) -> Option<Picture> {
    let (_, rest) = text.split_once(']')?;
    let (address, _) = rest.strip_prefix('(')?.split_once(')')?;
    if address.contains('(') || address.contains(char::is_whitespace) {
        return None;
    }
    let (run_id, path) = address.strip_prefix("artifact:")?.split_once('/')?;
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if run_id.is_empty() || path.is_empty() || !path.split('%').skip(1).all(is_escape) {
        return None;
    }
    let path = percent_decode_str(path).decode_utf8().ok()?.into_owned();
    Some(Picture { run_id: run_id.to_owned(), path })
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
        ] {
            assert!(pictures(other).is_empty(), "{other}");
        }
    }
}
