//! The panels of reports and dashboards, as far as a copy has to know which runs they show. The web UI
//! reads and writes them (`ui/src/panels/panels.ts`).

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    runs::v1::ParamPath,
    search::v1::{MetricValue, Sort, SortField, sort::By},
};
use matyan_value::{Map, Value};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// Kinds of panels that show runs, and the number of runs that each shows unless it says otherwise.
const KINDS: [(&str, u32); 9] = [
    ("chart", 50),
    ("bar", 50),
    ("scatter", 1_000),
    ("parallel", 1_000),
    ("importance", 1_000),
    ("heat", 1),
    ("number", 1_000),
    ("runs", 20),
    ("media", 6),
];
const MAX_RUNS: u32 = 1_000;
/// Kinds of media, the usual one first, and the objects that each of them is.
const MEDIA: [(&str, SeriesType); 7] = [
    ("images", SeriesType::Images),
    ("audio", SeriesType::Audios),
    ("texts", SeriesType::Texts),
    ("distributions", SeriesType::Distributions),
    ("figures", SeriesType::Figures),
    ("pages", SeriesType::Htmls),
    ("points", SeriesType::PointClouds),
];
const FENCE: &str = "```";
const PICTURE: &str = "](artifact:";

/// Objects of the query language, which words are not.
const OBJECTS: [&str; 10] = [
    "run",
    "metric",
    "images",
    "audios",
    "texts",
    "distributions",
    "figures",
    "htmls",
    "point_clouds",
    "True",
];
const KEYWORDS: [&str; 9] = ["and", "or", "not", "in", "if", "else", "lambda", "False", "None"];

/// The runs that a panel shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PanelSearch {
    pub(super) query: String,
    /// Empty: the newest runs.
    pub(super) sort: Vec<Sort>,
    pub(super) limit: u32,
    /// Whether the panel shows the points of metrics, and objects, such as images.
    pub(super) has_points: bool,
    pub(super) has_objects: bool,
    /// Objects that a run must have to be shown.
    pub(super) having: Option<SeriesType>,
}

/// A picture of a report: the artifact of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) run_id: String,
    pub(super) path: String,
}

/// The fields of a panel that decide which runs it shows.
#[derive(Debug, Default)]
struct Fields {
    kind: String,
    query: String,
    sort: String,
    runs: String,
    media: String,
}

impl Fields {
    fn named(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "kind" => Some(&mut self.kind),
            "query" => Some(&mut self.query),
            "sort" => Some(&mut self.sort),
            "runs" => Some(&mut self.runs),
            "media" => Some(&mut self.media),
            _ => None,
        }
    }

    /// `None` for a panel that shows no runs.
    fn search(self) -> Option<PanelSearch> {
        let kind = if self.kind.is_empty() { "chart" } else { &self.kind };
        let usual = KINDS.iter().find(|(own, _)| *own == kind)?.1;
        // Like the web UI, which takes no other texts for numbers.
        let stated = self.runs.trim().parse::<f64>().ok().filter(|runs| runs.is_finite());
        let limit = stated.map_or(usual, |runs| runs.round().clamp(1.0, MAX_RUNS.into()) as u32);
        let sort = if kind == "runs" { sort_of(&self.sort) } else { Vec::new() };
        Some(PanelSearch {
            limit,
            sort,
            has_points: matches!(kind, "chart" | "heat"),
            has_objects: kind == "media",
            having: (kind == "media").then(|| type_of(&self.media)),
            query: self.query,
        })
    }
}

fn type_of(media: &str) -> SeriesType {
    let known = MEDIA.iter().find(|(name, _)| *name == media);
    known.map_or(SeriesType::Images, |(_, objects)| *objects)
}

/// The panels in the text of a report.
pub(super) fn of_report(code: &str) -> Vec<PanelSearch> {
    let mut found = Vec::new();
    let mut open: Option<(Fields, String)> = None;
    for line in code.lines() {
        match &mut open {
            Some(_) if line.trim() == FENCE => {
                found.extend(open.take().and_then(|(fields, _)| fields.search()));
            }
            Some((fields, last)) => read_line(fields, last, line),
            None => open = opened_by(line).map(|kind| (Fields { kind, ..Fields::default() }, String::new())),
        }
    }
    found.extend(open.and_then(|(fields, _)| fields.search()));
    found
}

/// The language of code that begins with a line; empty: none.
fn opened_by(line: &str) -> Option<String> {
    let language = line.trim_start().strip_prefix(FENCE)?.split_whitespace().next().unwrap_or("text");
    Some(language.to_owned())
}

/// A line such as `query: run.active`, or an indented line that continues the line above.
fn read_line(fields: &mut Fields, last: &mut String, line: &str) {
    if line.trim().is_empty() {
        return;
    }
    if line.starts_with(char::is_whitespace) && !last.is_empty() {
        if let Some(value) = fields.named(last) {
            *value = format!("{value}\n{}", line.trim()).trim().to_owned();
        }
        return;
    }
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    name.trim().clone_into(last);
    if let Some(own) = fields.named(last).filter(|own| own.is_empty()) {
        value.trim().clone_into(own);
    }
}

/// The pictures in the text of a report.
pub(super) fn pictures_of(code: &str) -> Vec<Picture> {
    let places = code.split(PICTURE).skip(1).filter_map(|rest| rest.split_once(')'));
    let pictures = places.filter_map(|(place, _)| {
        let (run_id, path) = place.split_once('/')?;
        Some(Picture {
            run_id: run_id.to_owned(),
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
        })
    });
    pictures.collect()
}

/// The panels in the state of a dashboard, each of which gets its query together with the filter of the dashboard.
pub(super) fn of_dashboard(state: &mut Map) -> Vec<PanelSearch> {
    let filter = match state.insert("query".to_owned(), Value::Text(String::new())) {
        Some(Value::Text(filter)) => filter,
        _ => String::new(),
    };
    let Some(Value::List(panels)) = state.get_mut("panels") else { return Vec::new() };
    let mut found = Vec::new();
    for panel in panels {
        let Value::Map(panel) = panel else { continue };
        let query = both_queries(&filter, text_of(panel, "query"));
        panel.insert("query".to_owned(), Value::Text(query.clone()));
        let text = |name: &str| text_of(panel, name).to_owned();
        let fields = Fields {
            kind: text("kind"),
            query,
            sort: text("sort"),
            runs: text("runs"),
            media: text("media"),
        };
        found.extend(fields.search());
    }
    found
}

fn text_of<'m>(map: &'m Map, name: &str) -> &'m str {
    match map.get(name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// A query for the runs that two queries find.
fn both_queries(first: &str, second: &str) -> String {
    match (first.trim(), second.trim()) {
        ("", only) | (only, "") => only.to_owned(),
        (first, second) => format!("({}) and ({})", expression_of(first), expression_of(second)),
    }
}

/// A query as the server reads it. Words in place of an expression find runs in which a name, a description, a tag, an
/// experiment or a hash has each of them.
pub(super) fn expression_of(query: &str) -> String {
    if !is_words(query) {
        return query.to_owned();
    }
    let terms = query.split_whitespace().map(|word| {
        let word = json!(word.to_lowercase());
        format!(
            "any({word} in text.lower() for text in [run.name or \"\", run.description or \"\", run.experiment or \"\", \
             run.hash, *run.tags])"
        )
    });
    terms.collect::<Vec<_>>().join(" and ")
}

/// Whether a query is plain words: it refers to nothing, and compares nothing.
fn is_words(query: &str) -> bool {
    let is_plain = |char: char| char.is_alphanumeric() || char.is_whitespace() || "_./:@-".contains(char);
    let is_of_language = |word: &str| {
        let object = word.split_once('.').map_or(word, |(object, _)| object);
        KEYWORDS.contains(&word) || OBJECTS.contains(&object)
    };
    query.chars().all(is_plain) && !query.trim().is_empty() && !query.split_whitespace().any(is_of_language)
}

/// The order of columns such as `-created` or `metric:loss`, with commas between them.
fn sort_of(columns: &str) -> Vec<Sort> {
    let sort = parts(columns, ',').into_iter().filter_map(|column| {
        let column = unescaped(column);
        let column = column.trim();
        let name = column.strip_prefix('-').unwrap_or(column);
        let (by, value) = source_of(name)?;
        Some(Sort { by: Some(by), metric_value: value.into(), descending: name.len() < column.len() })
    });
    sort.collect()
}

/// The content of a column, and for a metric, which of its values.
fn source_of(column: &str) -> Option<(By, MetricValue)> {
    let field = |field: SortField| Some((By::Field(field.into()), MetricValue::Unspecified));
    match column {
        "created" => return field(SortField::Created),
        "duration" => return field(SortField::Duration),
        "status" => return field(SortField::Outcome),
        "name" => return field(SortField::Name),
        "experiment" => return field(SortField::Experiment),
        _ => {}
    }
    let (kind, rest) = column.split_once(':')?;
    let value = match kind {
        "param" => {
            let segments = parts(rest, '.').into_iter().map(unescaped).collect();
            return Some((By::Param(ParamPath { segments }), MetricValue::Unspecified));
        }
        "metric" | "curve" => MetricValue::Last,
        "first" => MetricValue::First,
        "min" => MetricValue::Min,
        "max" => MetricValue::Max,
        _ => return None,
    };
    // The context begins with the first brace that is not protected.
    let (name, context) = match places(rest, '{').next() {
        Some(at) => (rest[..at].strip_suffix(' ')?, &rest[at..]),
        None => (rest, ""),
    };
    Some((By::Metric(SeriesKey { name: unescaped(name), context: context.to_owned() }), value))
}

/// The parts of a text between separators that no backslash protects, without parts that are blank.
fn parts(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in places(text, separator) {
        parts.push(&text[start..at]);
        start = at + separator.len_utf8();
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Where a text has a character that no backslash protects.
fn places(text: &str, wanted: char) -> impl Iterator<Item = usize> {
    let mut is_protected = false;
    text.char_indices().filter_map(move |(at, char)| {
        let is_found = char == wanted && !is_protected;
        is_protected = char == '\\' && !is_protected;
        is_found.then_some(at)
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
    }
    plain
}

/// The values of a field of an address that has a list.
pub(super) fn list_of(value: &str) -> Vec<String> {
    parts(value, ',').into_iter().map(unescaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
# Losses

```python
query: of no panel
```

```chart
title: Losses
metric: loss
query: run.active
  and run.hparams.lr > 0
runs: 12
```
![a](artifact:3fd1/a%20b/c.png)

``` runs
sort: -metric:loss {\"a\"\\,1}, name
```

```text
query: no
```

```number
metric: loss
";

    #[test]
    fn the_panels_of_a_report_are_found() {
        let found = of_report(REPORT);
        let texts = found.iter().map(|it| (it.query.as_str(), it.limit, it.has_points, it.sort.len()));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [("run.active\nand run.hparams.lr > 0", 12, true, 0), ("", 20, false, 2), ("", 1_000, false, 0)]
        );
        let expected = Picture { run_id: "3fd1".to_owned(), path: "a b/c.png".to_owned() };
        assert_eq!(pictures_of(REPORT), [expected]);
        assert!(of_report("").is_empty() && pictures_of("![a](b.png)").is_empty());
    }

    #[test]
    fn panels_of_a_dashboard_get_its_filter() {
        let text = |text: &str| Value::Text(text.to_owned());
        let panel = |kind: &str, query: &str| {
            Value::Map(Map::from([("kind".to_owned(), text(kind)), ("query".to_owned(), text(query))]))
        };
        let mut state = Map::from([
            ("query".to_owned(), text("falcon")),
            (
                "panels".to_owned(),
                Value::List(vec![panel("", ""), panel("text", ""), panel("media", "run.active")]),
            ),
        ]);
        let found = of_dashboard(&mut state);
        assert_eq!(found.iter().map(|it| it.having).collect::<Vec<_>>(), [None, Some(SeriesType::Images)]);
        assert_eq!(found[0].query, "falcon");
        assert!(found[1].query.starts_with("(any(\"falcon\" in text.lower()"), "{}", found[1].query);
        assert!(found[1].query.ends_with(" and (run.active)"), "{}", found[1].query);
        assert_eq!(state["query"], text(""));
        let Value::List(panels) = &state["panels"] else { panic!("no panels") };
        assert_eq!(text_of(panels[2].as_map().unwrap(), "query"), found[1].query);
        assert!(of_dashboard(&mut Map::new()).is_empty());
    }

    #[test]
    fn a_panel_of_media_names_its_objects() {
        let having = |media: &str| of_report(&format!("```media\nmedia: {media}\n```"))[0].having;
        assert_eq!(having("points"), Some(SeriesType::PointClouds));
        assert_eq!(having("unknown"), Some(SeriesType::Images));
    }

    #[test]
    fn a_panel_has_at_most_a_thousand_runs() {
        for (runs, limit) in [("7", 7), ("0", 1), ("5000", 1_000), ("many", 50), ("nan", 50), ("inf", 50)] {
            assert_eq!(of_report(&format!("```chart\nruns: {runs}\n```"))[0].limit, limit, "{runs}");
        }
    }

    #[test]
    fn words_and_expressions_are_distinguished() {
        for words in ["falcon", "llama3-8b val/loss", "running wild"] {
            assert!(is_words(words), "{words}");
        }
        for expression in
            ["", " ", "run.active", "not x", "a < 1", "True", "\"a\" in run.tags", "metric.name"]
        {
            assert_eq!(expression_of(expression), expression);
        }
        assert_eq!(expression_of("A b").matches("any(").count(), 2);
        assert!(expression_of("A").starts_with("any(\"a\" in"));
    }

    #[test]
    fn columns_are_sort_keys() {
        let metric = |name: &str, context: &str| {
            By::Metric(SeriesKey { name: name.to_owned(), context: context.to_owned() })
        };
        assert_eq!(source_of("min:a\\{b"), Some((metric("a{b", ""), MetricValue::Min)));
        let context = "{\"subset\":\"val\"}";
        let column = format!("metric:val loss {context}");
        assert_eq!(source_of(&column), Some((metric("val loss", context), MetricValue::Last)));
        let path = ParamPath { segments: vec!["a.b".to_owned(), "c".to_owned()] };
        assert_eq!(source_of("param:a\\.b.c"), Some((By::Param(path), MetricValue::Unspecified)));
        assert_eq!(source_of("tags"), None);
        let sort = sort_of("-created, name,");
        assert_eq!(sort.iter().map(|one| one.descending).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn paths_and_lists_are_decoded() {
        assert_eq!(pictures_of("](artifact:3fd1/a+b)")[0].path, "a+b");
        assert_eq!(list_of("a,b\\,c"), ["a", "b,c"]);
    }
}
