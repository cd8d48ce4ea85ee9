//! Walks by cursor through searches of series and objects, through groups, and through the runs of an
//! experiment and of a tag, while runs are created, archived, deleted, and renamed: what stays is on
//! exactly one page, nothing is on two, and every walk ends.

use std::collections::{BTreeMap, HashSet};

use matyan_model::ids::RunNumber;
use matyan_proto::{
    common::v1::SeriesType,
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    runs::v1::Run,
    search::v1::{
        GroupBy, GroupValue, GroupsRequest, MetricsRequest, ObjectsRequest, SortField, group_by::By,
        group_value::Value,
    },
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use tonic::Streaming;

use crate::search::{
    harness::{self, Harness, RunSpec},
    walks::Project,
};

/// Rounds of changes in each walk at most; more would mean that it does not end.
const MAX_PAGES: usize = 1_000;

/// The entries of a page, and the cursor of the next page.
type Page = (Vec<String>, String);

type Runs = BTreeMap<String, (RunNumber, RunSpec)>;

/// The entries of a list that a change may have moved: the entries of all runs that differ.
fn moved(before: &Runs, after: &Runs, entry: fn(&RunSpec) -> String) -> Vec<String> {
    let of = |(_, run): &(RunNumber, RunSpec)| (run.name.clone(), run.archived, entry(run));
    let ids: HashSet<&String> = before.keys().chain(after.keys()).collect();
    let states = ids.into_iter().map(|id| (before.get(id).map(of), after.get(id).map(of)));
    let changed = states.filter(|(before, after)| before != after);
    changed.flat_map(|(before, after)| before.into_iter().chain(after)).map(|(.., entry)| entry).collect()
}

/// Walks through a list. `entry` is the entry of the list that a run is, or is counted in.
async fn walk(
    list: &str,
    seeds: std::ops::Range<u64>,
    entry: fn(&RunSpec) -> String,
    read: impl AsyncFn(&Harness, u32, String) -> Page,
) {
    for seed in seeds {
        let mut project = Project::new(seed, 100).await;
        for round in 0..4 {
            let context = format!("{list} with seed {seed}, round {round}");
            let limit = u32::try_from(1 + project.random.below(15)).unwrap();
            let (before, _) = read(&project.harness, 0, String::new()).await;
            assert!(before.len() > 10, "{context}: {before:?}");
            let mut sent = Vec::new();
            let mut cursor = String::new();
            let mut pages = 0;
            let mut moving = HashSet::new();
            loop {
                let (page, next) = read(&project.harness, limit, cursor).await;
                assert!(page.len() <= limit as usize, "{context}");
                sent.extend(page);
                cursor = next;
                pages += 1;
                if cursor.is_empty() {
                    break;
                }
                assert!(pages < MAX_PAGES, "{context}: the walk does not end");
                // Runs are created about as fast as pages are read.
                for _ in 0..project.random.below(8) {
                    let runs = project.runs.clone();
                    project.change().await;
                    moving.extend(moved(&runs, &project.runs, entry));
                }
            }
            let unique: HashSet<&String> = sent.iter().collect();
            assert_eq!(unique.len(), sent.len(), "{context}: an entry is on two pages: {sent:?}");
            let stayed: Vec<&String> = before.iter().filter(|one| !moving.contains(*one)).collect();
            let found: Vec<&String> = sent.iter().filter(|one| !moving.contains(*one)).collect();
            assert_eq!(found, stayed, "{context}");
        }
    }
}

fn id(run: &RunSpec) -> String {
    run.id.clone()
}

/// The entries of all messages of a page, and the cursor of the last one.
async fn page<M>(mut messages: Streaming<M>, part: impl Fn(M) -> Page) -> Page {
    let (mut listed, mut next) = Page::default();
    while let Some(message) = messages.message().await.unwrap() {
        let (entries, cursor) = part(message);
        listed.extend(entries);
        next = cursor;
    }
    (listed, next)
}

fn id_of(run: Option<Run>) -> String {
    run.unwrap().run_id
}

#[tokio::test]
async fn rule_47_a_walk_through_metrics_misses_and_repeats_nothing_that_stays() {
    walk("metrics", 31..34, id, async |harness, limit, cursor| {
        let query = harness::query("metric.name == 'loss'");
        let request = MetricsRequest { query, limit, cursor, ..MetricsRequest::default() };
        let messages = harness.search().metrics(request).await.unwrap().into_inner();
        page(messages, |it| (it.runs.into_iter().map(|row| id_of(row.run)).collect(), it.next_cursor)).await
    })
    .await;
}

#[tokio::test]
async fn rule_47_a_walk_through_objects_misses_and_repeats_nothing_that_stays() {
    walk("objects", 41..44, id, async |harness, limit, cursor| {
        let query = harness::query("texts.name == 'words'");
        let r#type = SeriesType::Texts.into();
        let request = ObjectsRequest { query, r#type, limit, cursor, ..ObjectsRequest::default() };
        let messages = harness.search().objects(request).await.unwrap().into_inner();
        page(messages, |it| (it.runs.into_iter().map(|row| id_of(row.run)).collect(), it.next_cursor)).await
    })
    .await;
}

#[tokio::test]
async fn rule_47_a_walk_through_the_runs_of_an_experiment_misses_and_repeats_nothing_that_stays() {
    walk("runs of an experiment", 51..54, id, async |harness, limit, cursor| {
        let mut client = ExperimentServiceClient::new(harness.backend.clone().into_routes());
        let id = "experiment-e1".to_owned();
        let after_run_id = String::new();
        let request = experiments::ListRunsRequest { id, limit, after_run_id, cursor };
        let messages = client.list_runs(request).await.unwrap().into_inner();
        page(messages, |it| (it.runs.into_iter().map(|run| run.run_id).collect(), it.next_cursor)).await
    })
    .await;
}

#[tokio::test]
async fn rule_47_a_walk_through_the_runs_of_a_tag_misses_and_repeats_nothing_that_stays() {
    walk("runs of a tag", 61..64, id, async |harness, limit, cursor| {
        let mut client = TagServiceClient::new(harness.backend.clone().into_routes());
        let id = "tag-t".to_owned();
        let after_run_id = String::new();
        let request = tags::ListRunsRequest { id, limit, after_run_id, cursor };
        let messages = client.list_runs(request).await.unwrap().into_inner();
        page(messages, |it| (it.runs.into_iter().map(|run| run.run_id).collect(), it.next_cursor)).await
    })
    .await;
}

/// Groups by experiment and name. Groups of the runs that change may come and go.
#[tokio::test]
async fn rule_47_a_walk_through_groups_misses_and_repeats_nothing_that_stays() {
    let group = |run: &RunSpec| format!("{} {}", run.experiment.as_deref().unwrap_or("-"), run.name);
    walk("groups", 71..74, group, async |harness, limit, cursor| {
        let by = |field: SortField| GroupBy { by: Some(By::Field(field.into())), ..GroupBy::default() };
        let by = vec![by(SortField::Experiment), by(SortField::Name)];
        let query = harness::query("");
        let request = GroupsRequest { query, by, limit, cursor, ..GroupsRequest::default() };
        let found = harness.search().groups(request).await.unwrap().into_inner();
        let text = |value: &GroupValue| match &value.value {
            Some(Value::Text(text)) => text.clone(),
            None => "-".to_owned(),
            other => panic!("{other:?}"),
        };
        let shown = |values: &[GroupValue]| values.iter().map(text).collect::<Vec<_>>().join(" ");
        (found.groups.iter().map(|group| shown(&group.values)).collect(), found.next_cursor)
    })
    .await;
}
