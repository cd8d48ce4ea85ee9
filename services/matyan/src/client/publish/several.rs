//! Copies of reports, dashboards and named views: their pages, and the runs that these show.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use matyan_proto::{
    apps::v1::{App, GetRequest, app_service_client::AppServiceClient},
    common::v1::SeriesType,
    dashboards::v1::Dashboard,
    metrics::v1::Goal,
    objects::v1::Selection,
    published::v1::{PublishedDashboard, PublishedPages, PublishedPart, PublishedRun, PublishedSearch},
    search::v1::{
        ObjectsRequest, Query, RunsRequest, SearchKind, Sort, Warning,
        search_service_client::SearchServiceClient,
    },
};
use matyan_value::{cbor, query_words::expression_of};
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use super::{
    Contents, DATA, Error, PublishFlags, RunCopy, Totals,
    artifacts::Artifacts,
    client,
    document::{Document, View},
    file_error, notice,
    panels::{self, PanelSearch},
    report::ReportText,
    run_ids,
    site::Page,
    write_run,
};
use crate::client::{
    Progress,
    connection::Connection,
    runs::{query_error, search_kind},
};

/// Type of the apps with the panels of dashboards.
const PANELS_TYPE: &str = "dashboard";
/// Folder of the pages of runs, and of their data below the folder of all data.
const RUNS: &str = "runs";
const MAX_FOLDER_CHARS: usize = 100;

/// The writer of a copy of several runs.
pub(super) struct SeveralCopy<'c> {
    pub(super) channel: &'c Connection,
    pub(super) root: &'c Path,
    pub(super) flags: &'c PublishFlags,
    pub(super) progress: &'c Progress,
    pub(super) totals: Totals,
}

/// The pages and runs that were written.
pub(super) struct WrittenPages {
    pub(super) pages: Vec<Page>,
    pub(super) runs: usize,
    pub(super) has_active_runs: bool,
}

/// A document with what a copy of it needs.
struct Plan {
    searches: Vec<PanelSearch>,
    /// Paths of the artifacts that a report shows, by the hashes of their runs.
    pictures: BTreeMap<String, HashSet<String>>,
    /// Runs that the document names, whether or not a search finds them.
    named: Vec<String>,
    published: PublishedPages,
    /// The pages of the document, starting with the page at the root of the copy.
    pages: Vec<Page>,
}

/// A run of the copy.
struct Part {
    run_id: String,
    has_points: bool,
    has_objects: bool,
    pictures: HashSet<String>,
}

/// The runs of the copy in the order in which they were found.
#[derive(Default)]
struct Parts {
    runs: Vec<Part>,
    places: HashMap<String, usize>,
}

impl Parts {
    /// The run and its place. A run that was not found before gets the last place.
    fn named(&mut self, run_id: String) -> (usize, &mut Part) {
        let next = self.runs.len();
        let at = *self.places.entry(run_id.clone()).or_insert(next);
        if at == next {
            self.runs.push(Part { run_id, has_points: false, has_objects: false, pictures: HashSet::new() });
        }
        (at, &mut self.runs[at])
    }
}

impl SeveralCopy<'_> {
    /// Writes the files with data, and returns the pages that show them.
    pub(super) async fn write(&mut self, document: Document) -> Result<WrittenPages, Error> {
        let mut plan = self.plan(document).await?;
        let mut parts = Parts::default();
        plan.published.searches = self.search(&plan.searches, &mut parts).await?;
        for run_id in self.existing(plan.named).await? {
            parts.named(run_id).1.has_points = true;
        }
        let shown = plan.pictures.keys().cloned().collect();
        for run_id in self.existing(shown).await? {
            let paths = plan.pictures.remove(&run_id).unwrap_or_default();
            parts.named(run_id).1.pictures = paths;
        }
        let mut goals = BTreeMap::new();
        let mut has_active_runs = false;
        for (at, part) in parts.runs.iter().enumerate() {
            self.progress.set(at as u64, parts.runs.len() as u64);
            let folder = folder_of(&part.run_id, at);
            let run = self.write_part(part, &folder).await?;
            has_active_runs |= run.run.and_then(|run| run.props).is_some_and(|props| props.active);
            add_goals(&mut goals, run.goals);
            plan.pages.extend(part.has_points.then(|| run_page(&part.run_id, &folder, &plan.pages)));
            let own = PublishedPart { run_id: part.run_id.clone(), folder, has_points: part.has_points };
            plan.published.runs.push(own);
        }
        plan.published.goals = goals.into_values().collect();
        let path = self.root.join(DATA).join("pages.bin");
        let encoded = plan.published.encode_to_vec();
        fs::write(&path, &encoded).map_err(file_error(&path))?;
        self.totals.size.add(encoded.len() as u64);
        Ok(WrittenPages { pages: plan.pages, runs: parts.runs.len(), has_active_runs })
    }

    async fn plan(&self, document: Document) -> Result<Plan, Error> {
        match document {
            Document::Report(report) => {
                let mut pictures: BTreeMap<String, HashSet<String>> = BTreeMap::new();
                let text = ReportText::parse(&report.code);
                for picture in text.pictures() {
                    pictures.entry(picture.run_id).or_default().insert(picture.path);
                }
                let pages = vec![document_page("report", &report.id)];
                let searches = panels::of_report(&text);
                let published = PublishedPages { report: Some(report), ..PublishedPages::default() };
                Ok(Plan { searches, pictures, named: Vec::new(), published, pages })
            }
            Document::Dashboard(dashboard) => self.plan_dashboard(dashboard).await,
            Document::View(view) => Ok(self.plan_view(&view)),
        }
    }

    async fn plan_dashboard(&self, dashboard: Dashboard) -> Result<Plan, Error> {
        let name = &dashboard.name;
        let foreign = || {
            Error::Message(format!(
                "another program saved the dashboard `{name}`, and only that program can show it"
            ))
        };
        if dashboard.app_type != PANELS_TYPE {
            return Err(foreign());
        }
        let request = GetRequest { id: dashboard.app_id.clone() };
        let answer = client!(AppServiceClient, self.channel.clone()).get(request).await?;
        let app = answer.into_inner().app.unwrap_or_default();
        let mut state = cbor::decode_map(&app.state).map_err(|_| foreign())?;
        let searches = panels::of_dashboard(&mut state);
        let app = App { state: cbor::encode_map(&state).into(), ..app };
        let pages = vec![document_page("dashboard", &dashboard.id)];
        let dashboard = Some(PublishedDashboard { dashboard: Some(dashboard), app: Some(app) });
        let published = PublishedPages { dashboard, ..PublishedPages::default() };
        Ok(Plan { searches, pictures: BTreeMap::new(), named: Vec::new(), published, pages })
    }

    fn plan_view(&self, view: &View) -> Plan {
        let has_media = view.has_media() || self.flags.media;
        let search = PanelSearch {
            query: view.query(),
            limit: self.flags.runs,
            has_points: true,
            has_objects: has_media,
            ..PanelSearch::default()
        };
        Plan {
            searches: vec![search],
            pictures: BTreeMap::new(),
            named: view.named_runs(),
            published: PublishedPages::default(),
            pages: view_pages(view, has_media),
        }
    }

    /// Finds the runs of all searches. Searches with the same query share a list, which begins with the newest runs.
    async fn search(
        &self,
        searches: &[PanelSearch],
        parts: &mut Parts,
    ) -> Result<Vec<PublishedSearch>, Error> {
        let mut found: BTreeMap<&str, PublishedSearch> = BTreeMap::new();
        let (newest, ordered): (Vec<_>, Vec<_>) =
            searches.iter().partition(|search| search.sort.is_empty() && search.having.is_none());
        for search in newest.into_iter().chain(ordered) {
            let run_ids = self.find(search).await?;
            let query = search.query.as_str();
            let own = found
                .entry(query)
                .or_insert_with(|| PublishedSearch { query: query.to_owned(), runs: Vec::new() });
            for run_id in run_ids {
                let (at, part) = parts.named(run_id);
                part.has_points |= search.has_points;
                part.has_objects |= search.has_objects || self.flags.media;
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                if !own.runs.contains(&at) {
                    own.runs.push(at);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Ids of the runs that a panel shows, in its order.
    async fn find(&self, search: &PanelSearch) -> Result<Vec<String>, Error> {
        let text = expression_of(&search.query);
        let query = Query { text: text.clone(), ..Query::default() };
        let limit = search.limit.min(self.flags.runs);
        let (kind, found) = match search.having {
            Some(objects) => (search_kind(objects), self.find_having(query, objects, limit).await),
            None => (SearchKind::Runs, self.find_runs(query, search.sort.clone(), limit).await),
        };
        match found {
            Err(status) if status.code() == Code::InvalidArgument => {
                Err(query_error(self.channel.clone(), kind, &text, status).await)
            }
            found => Ok(found?),
        }
    }

    async fn find_runs(
        &self,
        query: Query,
        sort: Vec<Sort>,
        limit: u32,
    ) -> Result<Vec<String>, tonic::Status> {
        let request =
            RunsRequest { query: Some(query), sort, limit, ids_only: true, ..RunsRequest::default() };
        let answer = client!(SearchServiceClient, self.channel.clone()).runs(request).await?;
        let mut messages = answer.into_inner();
        let mut run_ids = Vec::new();
        while let Some(message) = messages.message().await? {
            self.show_warnings(&message.warnings);
            run_ids.extend(message.run_ids);
        }
        Ok(run_ids)
    }

    /// Ids of the newest runs with objects of a type.
    async fn find_having(
        &self,
        query: Query,
        objects: SeriesType,
        limit: u32,
    ) -> Result<Vec<String>, tonic::Status> {
        let request = ObjectsRequest {
            query: Some(query),
            r#type: objects.into(),
            // The objects themselves are read later.
            selection: Some(Selection { record_density: 1, index_density: 1, ..Selection::default() }),
            limit,
            ..ObjectsRequest::default()
        };
        let answer = client!(SearchServiceClient, self.channel.clone()).objects(request).await?;
        let mut messages = answer.into_inner();
        let mut run_ids: Vec<String> = Vec::new();
        while let Some(message) = messages.message().await? {
            self.show_warnings(&message.warnings);
            for run in message.runs.into_iter().filter_map(|found| found.run) {
                // A run with many sequences is in several messages.
                if run_ids.last() != Some(&run.run_id) {
                    run_ids.push(run.run_id);
                }
            }
        }
        Ok(run_ids)
    }

    fn show_warnings(&self, warnings: &[Warning]) {
        for warning in warnings {
            self.progress.suspend(|| notice(format!("warning: {}", warning.message)));
        }
    }

    /// The ids that belong to runs, archived or not.
    async fn existing(&self, run_ids: Vec<String>) -> Result<Vec<String>, Error> {
        if run_ids.is_empty() {
            return Ok(run_ids);
        }
        let query = format!("run.hash in {} and run.archived in (True, False)", json!(run_ids));
        run_ids::find(self.channel, &query, 0).await
    }

    async fn write_part(&mut self, part: &Part, folder: &str) -> Result<PublishedRun, Error> {
        let PublishFlags { environment, artifacts, logs, .. } = *self.flags;
        let mut copy = RunCopy {
            channel: self.channel,
            run_id: &part.run_id,
            root: self.root,
            folder: format!("{RUNS}/{folder}"),
            has_environment: environment,
            progress: self.progress,
            totals: self.totals,
        };
        let contents = Contents {
            has_points: part.has_points,
            has_objects: part.has_objects,
            has_logs: logs && part.has_points,
            artifacts: if artifacts && part.has_points {
                Artifacts::All
            } else {
                Artifacts::Only(part.pictures.clone())
            },
        };
        let written = write_run(&mut copy, &contents).await;
        self.totals = copy.totals;
        written
    }
}

/// The name of the folder of a run: its hash, unless that cannot be the name of a folder.
fn folder_of(run_id: &str, place: usize) -> String {
    let is_name = (1..=MAX_FOLDER_CHARS).contains(&run_id.len())
        && run_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name { run_id.to_owned() } else { format!("~{place}") }
}

/// Goals belong to the project: a run whose goal has no x axis does not hide the x axis that other runs give.
fn add_goals(known: &mut BTreeMap<String, Goal>, goals: Vec<Goal>) {
    for goal in goals {
        let own = known.entry(goal.name.clone()).or_insert_with(|| goal.clone());
        if own.x_axis.is_empty() {
            own.x_axis = goal.x_axis;
        }
    }
}

fn document_page(page: &'static str, id: &str) -> Page {
    let attributes = vec![("data-page", page.to_owned()), ("data-pages", page.to_owned())];
    Page { place: String::new(), id: id.to_owned(), attributes }
}

fn view_pages(view: &View, has_media: bool) -> Vec<Page> {
    let names = view.copied_pages(has_media);
    let pages = names.iter().enumerate().map(|(at, name)| {
        let state = view.pages.get(*name).cloned().unwrap_or_default();
        let attributes = vec![
            ("data-page", (*name).to_owned()),
            ("data-pages", names.join(" ")),
            ("data-scope", view.scope.clone()),
            ("data-state", state),
        ];
        let place = if at == 0 { String::new() } else { (*name).to_owned() };
        Page { place, id: String::new(), attributes }
    });
    pages.collect()
}

/// The page of a run, which leads back to the pages of the copy.
fn run_page(run_id: &str, folder: &str, pages: &[Page]) -> Page {
    let all = pages.first().into_iter().flat_map(|page| &page.attributes);
    let names = all.filter(|(name, _)| *name == "data-pages").map(|(_, names)| names.clone());
    let place = format!("{RUNS}/{folder}");
    let attributes = vec![
        ("data-page", "run".to_owned()),
        ("data-pages", names.collect()),
        ("data-folder", format!("{place}/")),
    ];
    Page { place, id: run_id.to_owned(), attributes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_place_and_a_folder_that_is_a_name() {
        let mut parts = Parts::default();
        parts.named("a".to_owned()).1.has_points = true;
        assert_eq!(parts.named("b".to_owned()).0, 1);
        let (at, part) = parts.named("a".to_owned());
        assert_eq!((at, part.has_points), (0, true));
        assert_eq!(folder_of("3fd1c0", 4), "3fd1c0");
        for id in ["", "../x", "a b", "é", &"a".repeat(101)] {
            assert_eq!(folder_of(id, 4), "~4");
        }
    }

    #[test]
    fn the_pages_of_a_copy_know_each_other() {
        let mut pages = vec![document_page("report", "r1")];
        let page = run_page("a b", "~0", &pages);
        assert_eq!(page.place, "runs/~0");
        assert!(page.attributes.contains(&("data-pages", "report".to_owned())));
        assert!(page.attributes.contains(&("data-folder", "runs/~0/".to_owned())));
        pages.push(page);
        // The page at the root says which pages there are.
        assert!(run_page("c", "c", &pages).attributes.contains(&("data-pages", "report".to_owned())));
    }

    #[test]
    fn a_goal_keeps_the_x_axis_that_one_run_has() {
        let goal =
            |x_axis: &str| Goal { name: "loss".to_owned(), x_axis: x_axis.to_owned(), ..Goal::default() };
        let mut known = BTreeMap::new();
        for x_axis in ["", "epoch", ""] {
            add_goals(&mut known, vec![goal(x_axis)]);
        }
        assert_eq!(known.into_values().collect::<Vec<_>>(), [goal("epoch")]);
    }
}
