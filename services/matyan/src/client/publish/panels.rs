//! The panels of reports and dashboards, as far as a copy has to know which runs they show. The web UI
//! reads and writes them (`ui/src/panels/panels.ts`), and notebooks read charts (`_report_panels.py` of the Python SDK);
//! `tests/vectors/panels.json` has cases for all.

use matyan_proto::{common::v1::SeriesType, search::v1::Sort};
use matyan_value::{Map, Value, query_words::both_queries};

use super::{
    columns::sort_of,
    report::{ReportCode, ReportText},
};

/// A kind of panels that show runs.
#[derive(Debug)]
struct PanelKind {
    name: &'static str,
    /// The number of runs that a panel shows unless it says otherwise.
    runs: u32,
    /// Whether a panel may say otherwise.
    is_limited: bool,
}

impl PanelKind {
    /// A kind whose panels state their number of runs.
    const fn limited(name: &'static str, runs: u32) -> Self {
        Self { name, runs, is_limited: true }
    }

    /// A kind whose panels show all runs.
    const fn whole(name: &'static str) -> Self {
        Self { name, runs: MAX_RUNS, is_limited: false }
    }

    /// `None` for any other word, and for texts.
    fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    fn uses(&self, field: &str) -> bool {
        match field {
            "query" => true,
            "runs" => self.is_limited,
            "sort" => self.name == RUNS,
            "media" => self.name == MEDIA,
            _ => false,
        }
    }
}

const MAX_RUNS: u32 = 1_000;
const RUNS: &str = "runs";
const MEDIA: &str = "media";
const TEXT: &str = "text";
/// Panels of dashboards with an unknown kind are of this kind.
const CHART: PanelKind = PanelKind::limited("chart", 50);
static KINDS: [PanelKind; 9] = [
    CHART,
    PanelKind::limited("bar", 50),
    PanelKind::whole("scatter"),
    PanelKind::whole("parallel"),
    PanelKind::whole("importance"),
    PanelKind::limited("heat", 1),
    PanelKind::limited("number", MAX_RUNS),
    PanelKind::limited(RUNS, 20),
    PanelKind::limited(MEDIA, 6),
];
/// Kinds of media, the usual one first, and the objects that each of them is.
const MEDIA_KINDS: [(&str, SeriesType); 7] = [
    ("images", SeriesType::Images),
    ("audio", SeriesType::Audios),
    ("texts", SeriesType::Texts),
    ("distributions", SeriesType::Distributions),
    ("figures", SeriesType::Figures),
    ("pages", SeriesType::Htmls),
    ("points", SeriesType::PointClouds),
];

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

/// The fields of a panel that decide which runs it shows; `None`: not set.
#[derive(Debug, Default)]
struct Fields {
    query: Option<String>,
    sort: Option<String>,
    runs: Option<String>,
    media: Option<String>,
}

impl Fields {
    fn named(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "query" => Some(&mut self.query),
            "sort" => Some(&mut self.sort),
            "runs" => Some(&mut self.runs),
            "media" => Some(&mut self.media),
            _ => None,
        }
    }

    /// Reads the code of a panel in a report.
    fn of_code(kind: &PanelKind, lines: &[String]) -> Self {
        let mut fields = Self::default();
        let mut last = None;
        for line in lines.iter().filter(|line| !line.trim().is_empty()) {
            if line.starts_with(char::is_whitespace) {
                // It continues the line above, unless that has a mistake, or is about something else.
                if let Some(value) = last.and_then(|name| fields.named(name)).and_then(Option::as_mut) {
                    *value = format!("{value}\n{}", line.trim()).trim().to_owned();
                }
            } else {
                last = fields.read_line(kind, line);
            }
        }
        fields
    }

    /// Reads a line such as `query: run.active`. Returns the name of the field, unless the line has a mistake, which the web
    /// UI tells the author.
    fn read_line<'l>(&mut self, kind: &PanelKind, line: &'l str) -> Option<&'l str> {
        let (name, value) = line.split_once(':')?;
        let name = name.trim_end();
        let value = value.trim();
        let field = self.named(name).filter(|field| field.is_none())?;
        if !kind.uses(name) || !is_readable(name, value) {
            return None;
        }
        *field = Some(value.to_owned());
        Some(name)
    }

    fn search(self, kind: &PanelKind) -> PanelSearch {
        let stated = self.runs.as_deref().filter(|_| kind.is_limited).and_then(number_of);
        let limit = stated.map_or(kind.runs, |runs| runs.round().clamp(1.0, MAX_RUNS.into()) as u32);
        let sort = self.sort.as_deref().filter(|_| kind.uses("sort")).and_then(sort_of);
        let has_objects = kind.name == MEDIA;
        let media = self.media.as_deref().and_then(media_of).unwrap_or(SeriesType::Images);
        PanelSearch {
            query: self.query.unwrap_or_default(),
            sort: sort.unwrap_or_default(),
            limit,
            has_points: matches!(kind.name, "chart" | "heat"),
            has_objects,
            having: has_objects.then_some(media),
        }
    }
}

/// Whether a field has a value that the web UI can read.
fn is_readable(name: &str, value: &str) -> bool {
    value.is_empty()
        || match name {
            "sort" => sort_of(value).is_some(),
            "runs" => number_of(value).is_some(),
            "media" => media_of(value).is_some(),
            _ => true,
        }
}

fn media_of(media: &str) -> Option<SeriesType> {
    MEDIA_KINDS.iter().find(|(name, _)| *name == media).map(|(_, objects)| *objects)
}

/// A finite number as JavaScript reads it.
fn number_of(text: &str) -> Option<f64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, radix)| {
        let digits = lower.strip_prefix(prefix).filter(|digits| !digits.starts_with('+'))?;
        Some(u64::from_str_radix(digits, radix).ok()? as f64)
    });
    let number = radix.or_else(|| text.parse().ok());
    number.filter(|number| number.is_finite())
}

/// The panels in the text of a report.
pub(super) fn of_report(report: &ReportText) -> Vec<PanelSearch> {
    let search = |code: &ReportCode| {
        let kind = PanelKind::named(&code.language)?;
        Some(Fields::of_code(kind, &code.lines).search(kind))
    };
    report.code.iter().filter_map(search).collect()
}

/// The panels in the state of a dashboard, each of which gets its query together with the filter of the dashboard.
pub(super) fn of_dashboard(state: &mut Map) -> Vec<PanelSearch> {
    let filter = match state.insert("query".to_owned(), Value::Text(String::new())) {
        Some(Value::Text(filter)) => filter,
        _ => String::new(),
    };
    let Some(Value::List(panels)) = state.get_mut("panels") else { return Vec::new() };
    let mut found = Vec::new();
    for value in panels {
        if !matches!(value, Value::Map(_)) {
            // The web UI shows a chart with no settings.
            *value = Value::Map(Map::new());
        }
        let Value::Map(panel) = value else { continue };
        let query = both_queries(&filter, &text_of(panel, "query").unwrap_or_default());
        panel.insert("query".to_owned(), Value::Text(query.clone()));
        let name = text_of(panel, "kind").unwrap_or_default();
        if name == TEXT {
            continue;
        }
        let kind = PanelKind::named(&name).unwrap_or(&CHART);
        let fields = Fields {
            query: Some(query),
            sort: text_of(panel, "sort"),
            runs: text_of(panel, "runs"),
            media: text_of(panel, "media"),
        };
        found.push(fields.search(kind));
    }
    found
}

/// A text or a number as a text.
fn text_of(map: &Map, name: &str) -> Option<String> {
    match map.get(name)? {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
