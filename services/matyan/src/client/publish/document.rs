//! The subject of a copy: a run, or a report, a dashboard or a named view of the project, by its name or id.

use std::collections::BTreeMap;

use matyan_proto::{
    apps::v1::{self as apps, App, app_service_client::AppServiceClient},
    dashboards::v1::{self as dashboards, Dashboard, dashboard_service_client::DashboardServiceClient},
    reports::v1::{self as reports, Report, report_service_client::ReportServiceClient},
};
use matyan_value::{Map, Value, cbor};

use super::{Error, client, run_ids};
use crate::client::connection::Connection;

/// Type of the apps that are named views.
const VIEW_TYPE: &str = "workspace";
/// Length of the hashes of runs. A text of this length is the hash of a run, or nothing.
const HASH_CHARS: usize = 32;

/// The subject of a copy.
#[derive(Debug)]
pub(super) enum Subject {
    /// The hash of a run, or any other text.
    Run(String),
    Document(Document),
}

/// A document that shows several runs.
#[derive(Debug)]
pub(super) enum Document {
    Report(Report),
    Dashboard(Dashboard),
    View(View),
}

/// A named view: which runs are looked at, and how.
#[derive(Debug)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) name: String,
    /// The query of an address with the state that the pages have in common.
    pub(super) scope: String,
    /// Queries of addresses with the rest of the state of each page that was saved, by the name of the page.
    pub(super) pages: BTreeMap<String, String>,
}

/// The word before the name of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Run,
    Report,
    Dashboard,
    View,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Report => "report",
            Self::Dashboard => "dashboard",
            Self::View => "view",
        }
    }
}

impl Document {
    fn kind(&self) -> Kind {
        match self {
            Self::Report(_) => Kind::Report,
            Self::Dashboard(_) => Kind::Dashboard,
            Self::View(_) => Kind::View,
        }
    }

    /// The kind of the document, as people and programs read it.
    pub(super) fn word(&self) -> &'static str {
        self.kind().word()
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::Report(report) => &report.id,
            Self::Dashboard(dashboard) => &dashboard.id,
            Self::View(view) => &view.id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Report(report) => &report.name,
            Self::Dashboard(dashboard) => &dashboard.name,
            Self::View(view) => &view.name,
        }
    }

    fn is_called(&self, text: &str) -> bool {
        self.id() == text || self.name() == text
    }
}

/// Finds a document by its name or id, or a run by the beginning of its hash.
pub(super) async fn find(channel: &Connection, text: &str) -> Result<Subject, Error> {
    let (kind, name) = kind_and_name(text);
    if kind == Some(Kind::Run) || is_hash(name) {
        return Ok(Subject::Run(run_ids::complete(channel, name.to_owned()).await?));
    }
    let mut found = Vec::new();
    if kind.is_none_or(|kind| kind == Kind::Report) {
        found.extend(read_reports(channel).await?);
    }
    if kind.is_none_or(|kind| kind == Kind::Dashboard) {
        found.extend(read_dashboards(channel).await?);
    }
    if kind.is_none_or(|kind| kind == Kind::View) {
        found.extend(read_views(channel).await?);
    }
    found.retain(|document| document.is_called(name));
    let runs = match kind {
        None => run_ids::find_starting_with(channel, name).await?,
        Some(_) => Vec::new(),
    };
    choose(name, kind, found, runs)
}

/// The only document that was found; without one, the text is taken for a run.
fn choose(
    name: &str,
    kind: Option<Kind>,
    mut found: Vec<Document>,
    mut runs: Vec<String>,
) -> Result<Subject, Error> {
    match (kind, found.len(), runs.len()) {
        (_, 1, 0) => return Ok(Subject::Document(found.remove(0))),
        (None, 0, 1) => return Ok(Subject::Run(runs.remove(0))),
        (None, 0, 0) => return Ok(Subject::Run(name.to_owned())),
        (Some(kind), 0, _) => {
            let word = kind.word();
            let message = format!("no {word} has the name or the id `{name}`: the web UI lists all of them");
            return Err(Error::Message(message));
        }
        _ => {}
    }
    let documents = found.iter().map(|document| format!("{}:{}", document.word(), document.id()));
    let runs = runs.iter().map(|run| format!("{}:{run}", Kind::Run.word()));
    let all = documents.chain(runs).collect::<Vec<_>>().join("\n  ");
    Err(Error::Message(format!("several things have the name `{name}`: give one of these\n  {all}")))
}

fn kind_and_name(text: &str) -> (Option<Kind>, &str) {
    let kinds = [Kind::Run, Kind::Report, Kind::Dashboard, Kind::View];
    let known = text.split_once(':').and_then(|(word, name)| {
        let kind = kinds.into_iter().find(|kind| kind.word() == word)?;
        Some((kind, name))
    });
    known.map_or((None, text), |(kind, name)| (Some(kind), name))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn read_reports(channel: &Connection) -> Result<Vec<Document>, Error> {
    let answer = client!(ReportServiceClient, channel.clone()).list(reports::ListRequest {}).await?;
    let mut messages = answer.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.reports.into_iter().map(Document::Report));
    }
    Ok(found)
}

async fn read_dashboards(channel: &Connection) -> Result<Vec<Document>, Error> {
    let answer = client!(DashboardServiceClient, channel.clone()).list(dashboards::ListRequest {}).await?;
    let mut messages = answer.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.dashboards.into_iter().map(Document::Dashboard));
    }
    Ok(found)
}

async fn read_views(channel: &Connection) -> Result<Vec<Document>, Error> {
    let request = apps::ListRequest { types: vec![VIEW_TYPE.to_owned()] };
    let mut messages = client!(AppServiceClient, channel.clone()).list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.apps.into_iter().filter_map(view_of).map(Document::View));
    }
    Ok(found)
}

/// `None` for an app that another program wrote.
fn view_of(app: App) -> Option<View> {
    let mut state = cbor::decode_map(&app.state).ok()?;
    let name = take_text(&mut state, "name").filter(|name| app.r#type == VIEW_TYPE && !name.is_empty())?;
    let scope = take_text(&mut state, "scope")?;
    let Some(Value::Map(pages)) = state.remove("pages") else { return None };
    let pages = pages.into_iter().filter_map(|(page, own)| match own {
        Value::Text(own) => Some((page, own)),
        _ => None,
    });
    Some(View { id: app.id, name, scope, pages: pages.collect() })
}

fn take_text(state: &mut Map, name: &str) -> Option<String> {
    match state.remove(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, name: &str) -> Document {
        Document::Report(Report { id: id.to_owned(), name: name.to_owned(), ..Report::default() })
    }

    #[test]
    fn a_name_identifies_the_only_document_or_run_that_has_it() {
        let chosen = |kind: Option<Kind>, found: Vec<Document>, runs: &[&str]| {
            let runs = runs.iter().map(|run| (*run).to_owned()).collect();
            choose("face", kind, found, runs).map(|subject| match subject {
                Subject::Run(run) => format!("run:{run}"),
                Subject::Document(document) => format!("{}:{}", document.word(), document.id()),
            })
        };
        assert_eq!(chosen(None, vec![report("r1", "face")], &[]).unwrap(), "report:r1");
        assert_eq!(chosen(None, vec![], &["face12"]).unwrap(), "run:face12");
        assert_eq!(chosen(None, vec![], &[]).unwrap(), "run:face");
        let error = chosen(None, vec![report("r1", "face")], &["face12"]).unwrap_err().to_string();
        assert!(error.contains("report:r1") && error.contains("run:face12"), "{error}");
        let error = chosen(Some(Kind::View), vec![], &[]).unwrap_err().to_string();
        assert!(error.contains("no view has the name"), "{error}");
    }

    #[test]
    fn a_word_before_the_name_is_its_kind() {
        assert_eq!(kind_and_name("report:a:b"), (Some(Kind::Report), "a:b"));
        assert_eq!(kind_and_name("note: a"), (None, "note: a"));
        assert_eq!(kind_and_name("3fd1c0"), (None, "3fd1c0"));
    }

    #[test]
    fn views_of_other_programs_are_left_out() {
        let text = |text: &str| Value::Text(text.to_owned());
        let pages = Map::from([("metrics".to_owned(), text("m=loss")), ("runs".to_owned(), Value::Null)]);
        let state = Map::from([
            ("name".to_owned(), text("Sweep")),
            ("scope".to_owned(), text("q=a")),
            ("pages".to_owned(), Value::Map(pages)),
        ]);
        let app = |kind: &str, state: &Map| App {
            id: "v1".to_owned(),
            r#type: kind.to_owned(),
            state: cbor::encode_map(state).into(),
            ..App::default()
        };
        let view = view_of(app(VIEW_TYPE, &state)).unwrap();
        assert_eq!((view.name.as_str(), view.scope.as_str()), ("Sweep", "q=a"));
        assert_eq!(view.pages, BTreeMap::from([("metrics".to_owned(), "m=loss".to_owned())]));
        assert!(view_of(app("metrics", &state)).is_none());
        assert!(view_of(app(VIEW_TYPE, &Map::new())).is_none());
    }
}
