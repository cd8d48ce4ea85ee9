//! Walks through lists while runs are created, archived, deleted, and renamed: a run that stays is on
//! exactly one page, and every walk ends.

use std::collections::{BTreeMap, HashMap, HashSet};

use matyan_model::{
    ids::RunNumber,
    run::{Outcome, OutcomeKind},
};
use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::{ListRequest, ParamPath, run_service_client::RunServiceClient},
    search::v1::{MetricValue, MetricsRequest, RunMetrics, RunsRequest, Sort, SortField, sort::By},
};
use tonic::Code;

use crate::search::harness::{self, Harness, RunSpec, Sequence, map, spec};

/// A small generator of pseudo-random numbers: the tests name their seeds.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A project whose runs change.
pub(crate) struct Project {
    pub(crate) harness: Harness,
    pub(crate) random: Random,
    pub(crate) runs: BTreeMap<String, (RunNumber, RunSpec)>,
    created: u64,
}

impl Project {
    pub(crate) async fn new(seed: u64, runs: u64) -> Self {
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut project = Self { harness: Harness::new().await, random, runs: BTreeMap::new(), created: 0 };
        for _ in 0..runs {
            project.create().await;
        }
        project
    }

    /// Creates a run. Ids, names, and values are not in the order of creation, and have duplicates.
    async fn create(&mut self) {
        let at = self.created;
        self.created += 1;
        let mut run = spec(&format!("{:04x}-{at}", self.random.below(1 << 16)), 1_000_000 + at.cast_signed());
        run.name = format!("name {}", self.random.below(20));
        run.description = format!("{}", self.random.below(3));
        run.archived = self.random.below(10) == 0;
        run.active = self.random.below(2) == 0;
        run.finalized_us = (!run.active).then_some(2_000_000 + self.random.below(100).cast_signed());
        let kinds = [OutcomeKind::Finished, OutcomeKind::Failed, OutcomeKind::Interrupted];
        let kind = kinds.get(self.random.below(4) as usize).filter(|_| !run.active);
        run.outcome = kind.map(|kind| Outcome { kind: *kind, message: String::new() });
        run.experiment = (self.random.below(3) > 0).then(|| format!("e{}", self.random.below(3)));
        let value = match self.random.below(6) {
            0 => "null".to_owned(),
            1 => "[1]".to_owned(),
            2 => format!("\"{}\"", self.random.below(5)),
            3 => format!("{}.5", self.random.below(5)),
            4 => "true".to_owned(),
            _ => self.random.below(5).to_string(),
        };
        run.params = map(&format!(r#"{{"a":{{"b":{value}}},"seed":{at}}}"#));
        if self.random.below(4) > 0 {
            let value = self.random.below(8) as f64;
            let points = vec![(0, value), (1, 7.5 - value), (2, f64::NAN), (3, value / 2.0)];
            run.sequences = vec![Sequence {
                name: "loss".into(),
                context: map(r#"{"subset":"val"}"#),
                dtype: "float".into(),
                points,
            }];
        }
        if self.random.below(3) > 0 {
            run.tags = vec!["t".into()];
            let name = "words".to_owned();
            let context = map("{}");
            let dtype = "text".to_owned();
            run.sequences.push(Sequence { name, context, dtype, points: vec![(0, 1.0)] });
        }
        let number = self.harness.create(&run).await;
        self.runs.insert(run.id.clone(), (number, run));
    }

    fn any(&mut self) -> Option<String> {
        let place = self.random.below(self.runs.len() as u64 + 1);
        self.runs.keys().nth(usize::try_from(place).unwrap()).cloned()
    }

    /// Makes a change. Returns the run that may now be somewhere else in a list, or in none.
    pub(crate) async fn change(&mut self) -> Option<String> {
        match self.random.below(5) {
            0 | 1 => {
                self.create().await;
                None
            }
            2 => {
                let id = self.any()?;
                self.runs.remove(&id);
                self.harness.delete(&id).await;
                Some(id)
            }
            kind => {
                let id = self.any()?;
                let name = format!("name {}", self.random.below(20));
                let (number, run) = self.runs.get_mut(&id)?;
                if kind == 3 {
                    run.archived = !run.archived
                } else {
                    run.name = name
                }
                let number = *number;
                let run = run.clone();
                self.harness.change(number, &run).await;
                Some(id)
            }
        }
    }
}

fn orders() -> Vec<Vec<Sort>> {
    let field = |field: SortField| Some(By::Field(field.into()));
    let param = |segments: &[&str]| {
        Some(By::Param(ParamPath { segments: segments.iter().map(ToString::to_string).collect() }))
    };
    let loss = Some(By::Metric(SeriesKey { name: "loss".into(), context: r#"{"subset":"val"}"#.into() }));
    let sort = |by: &Option<By>, descending| Sort { by: by.clone(), descending, ..Sort::default() };
    let mut orders = vec![vec![]];
    for by in [
        field(SortField::Created),
        field(SortField::Duration),
        field(SortField::Name),
        field(SortField::RunId),
        field(SortField::Experiment),
        field(SortField::Description),
        field(SortField::Ended),
        field(SortField::Outcome),
        field(SortField::Tags),
        param(&["a", "b"]),
        loss.clone(),
    ] {
        orders.extend([vec![sort(&by, false)], vec![sort(&by, true)]]);
    }
    for value in [MetricValue::First, MetricValue::Min, MetricValue::Max] {
        orders.push(vec![Sort { metric_value: value.into(), ..sort(&loss, false) }]);
    }
    orders.push(vec![
        sort(&param(&["a", "b"]), true),
        sort(&field(SortField::Experiment), false),
        sort(&loss, true),
    ]);
    orders
}

const QUERIES: [&str; 4] =
    ["", "run.archived in (True, False)", "run.seed % 3 != 1", "run.experiment == 'e1'"];

async fn walk(seed: u64) {
    let mut project = Project::new(seed, 120).await;
    let orders = orders();
    for round in 0..12 {
        let sort = orders[usize::try_from(project.random.below(orders.len() as u64)).unwrap()].clone();
        let query = QUERIES[usize::try_from(project.random.below(QUERIES.len() as u64)).unwrap()];
        let limit = u32::try_from(1 + project.random.below(40)).unwrap();
        let context = format!("seed {seed}, round {round}: {query:?} by {sort:?}, {limit} at a time");
        let list = RunsRequest { sort, ..harness::runs_request(query) };
        let whole = project.harness.runs(list.clone()).await.unwrap();
        let before: Vec<String> = whole.ids().iter().map(ToString::to_string).collect();
        let mut moved: Vec<String> = Vec::new();
        let mut sent: Vec<String> = Vec::new();
        let mut cursor = String::new();
        loop {
            let count = project.random.below(3) == 0;
            let page = RunsRequest { limit, cursor, count, ..list.clone() };
            let found = project.harness.runs(page).await.unwrap();
            assert!(found.runs.len() <= limit as usize, "{context}");
            sent.extend(found.ids().iter().map(ToString::to_string));
            cursor = found.messages.last().unwrap().next_cursor.clone();
            if cursor.is_empty() {
                break;
            }
            // Runs are created faster than pages are read.
            for _ in 0..project.random.below(6) {
                moved.extend(project.change().await);
            }
            assert!(sent.len() <= before.len() + moved.len(), "{context}: the walk does not end");
        }
        let stayed: Vec<&String> = before.iter().filter(|id| !moved.contains(id)).collect();
        let read: Vec<&String> = sent.iter().filter(|id| !moved.contains(id)).collect();
        assert_eq!(read, stayed, "{context}");
    }
}

#[tokio::test]
async fn rule_47_a_walk_misses_and_repeats_nothing_that_stays() {
    for seed in 1..=6 {
        walk(seed).await;
    }
}

/// `RunService.List` continues below a run number, so it needs no table.
async fn walk_newest_first(seed: u64, active: Option<bool>, archived: Option<bool>) {
    let mut project = Project::new(seed, 120).await;
    let context = format!("seed {seed}, active: {active:?}, archived: {archived:?}");
    let mut client = RunServiceClient::new(project.harness.backend.clone().into_routes());
    let is_listed = |run: &RunSpec| {
        active.is_none_or(|active| active == run.active)
            && archived.is_none_or(|archived| archived == run.archived)
    };
    let listed = project.runs.values().filter(|(_, run)| is_listed(run));
    let mut stayed: Vec<(RunNumber, String)> =
        listed.map(|(number, run)| (*number, run.id.clone())).collect();
    stayed.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let newest = project.runs.values().map(|(number, _)| *number).max().unwrap();
    let mut sent: Vec<String> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page_size = u32::try_from(1 + project.random.below(20)).unwrap();
        let page = ListRequest { active, archived, page_size, page_token, parts: None };
        let found = client.list(page).await.unwrap().into_inner();
        assert!(found.runs.len() <= page_size as usize, "{context}");
        sent.extend(found.runs.into_iter().map(|run| run.run_id));
        page_token = found.next_page_token;
        if page_token.is_empty() {
            break;
        }
        for _ in 0..project.random.below(8) {
            if let Some(id) = project.change().await
                && !project.runs.get(&id).is_some_and(|(_, run)| is_listed(run))
            {
                stayed.retain(|(_, other)| *other != id);
            }
        }
    }
    let unique: HashSet<&String> = sent.iter().collect();
    assert_eq!(unique.len(), sent.len(), "{context}: a run is on two pages");
    let is_new = |id: &&String| project.runs.get(*id).is_some_and(|(number, _)| *number > newest);
    assert_eq!(sent.iter().find(is_new), None, "{context}: a new run is on a later page");
    let ids: HashSet<&String> = stayed.iter().map(|(_, id)| id).collect();
    let read = sent.iter().filter(|id| ids.contains(id));
    assert!(read.eq(stayed.iter().map(|(_, id)| id)), "{context}: {sent:?} instead of {stayed:?}");
}

#[tokio::test]
async fn rule_47_a_walk_by_page_tokens_misses_and_repeats_nothing_that_stays() {
    let filters = [None, Some(false), Some(true)];
    for (seed, (active, archived)) in
        (21..).zip(filters.into_iter().flat_map(|active| filters.map(|archived| (active, archived))))
    {
        walk_newest_first(seed, active, archived).await;
    }
}

/// Another server on the same store has its own tables.
#[tokio::test]
async fn lists_continue_on_other_servers_and_see_their_changes() {
    let mut project = Project::new(7, 200).await;
    let other = project.harness.second().await;
    for sort in orders() {
        let list = RunsRequest { sort, ..harness::runs_request("run.seed % 2 == 0") };
        let mut sent: Vec<String> = Vec::new();
        let mut cursor = String::new();
        for turn in 0.. {
            let page = RunsRequest { limit: 7, cursor, ..list.clone() };
            let found = if turn % 2 == 0 { project.harness.runs(page).await } else { other.runs(page).await };
            let found = found.unwrap();
            sent.extend(found.ids().iter().map(ToString::to_string));
            cursor = found.messages.last().unwrap().next_cursor.clone();
            if cursor.is_empty() {
                break;
            }
        }
        let whole = project.harness.runs(list.clone()).await.unwrap();
        assert_eq!(sent, whole.ids(), "{list:?}");
        for _ in 0..5 {
            project.change().await;
        }
        let here = project.harness.runs(list.clone()).await;
        let there = other.runs(list.clone()).await;
        assert_eq!(here.unwrap().ids(), there.unwrap().ids(), "{list:?}");
    }
}

#[tokio::test]
async fn every_position_of_a_list_is_reached_directly() {
    let mut project = Project::new(8, 150).await;
    for (query, sort) in
        QUERIES.into_iter().flat_map(|query| orders().into_iter().map(move |sort| (query, sort)))
    {
        let list = RunsRequest { sort, ..harness::runs_request(query) };
        let whole = project.harness.runs(list.clone()).await.unwrap();
        let total = whole.runs.len() as u64;
        for position in [0, 1, project.random.below(total), total - 1, total, total + 5] {
            let page = RunsRequest { limit: 10, position, count: true, ..list.clone() };
            let found = project.harness.runs(page).await.unwrap();
            let expected: Vec<&str> =
                whole.ids().into_iter().skip(usize::try_from(position).unwrap()).take(10).collect();
            assert_eq!(found.ids(), expected, "{list:?} from {position}");
            assert_eq!(found.match_count, Some(total), "{list:?} from {position}");
            assert!(
                found.places.iter().zip(position + 1..).all(|(place, expected)| *place == Some(expected))
            );
            let is_last = position + 10 >= total;
            assert_eq!(found.messages.last().unwrap().next_cursor.is_empty(), is_last, "{list:?} {position}");
        }
    }
}

/// New runs and renamed ones are found by a list that begins later, and a run with a new value is at
/// its new place.
#[tokio::test]
async fn tables_follow_the_runs() {
    let mut project = Project::new(9, 40).await;
    for round in 0..40 {
        project.change().await;
        for sort in [SortField::Name, SortField::Duration, SortField::Experiment] {
            let sort = vec![Sort { by: Some(By::Field(sort.into())), ..Sort::default() }];
            let list = RunsRequest { sort, ..harness::runs_request("") };
            let found = project.harness.runs(list.clone()).await.unwrap();
            let shown = project.runs.values().filter(|(_, run)| !run.archived).count();
            assert_eq!(found.runs.len(), shown, "round {round}: {list:?}");
            // A server without a table reads everything again.
            let fresh = project.harness.second().await.runs(list.clone()).await.unwrap();
            assert_eq!(found.ids(), fresh.ids(), "round {round}: {list:?}");
        }
    }
}

#[tokio::test]
async fn cursors_of_other_lists_are_refused() {
    let project = Project::new(10, 30).await;
    let first = RunsRequest { limit: 3, ..harness::runs_request("") };
    let cursor = |found: &harness::RunSearchResult| found.messages.last().unwrap().next_cursor.clone();
    let given = cursor(&project.harness.runs(first.clone()).await.unwrap());
    let by_name = vec![Sort { by: Some(By::Field(SortField::Name.into())), ..Sort::default() }];
    for wrong in [
        RunsRequest { cursor: given.clone(), sort: by_name, ..first.clone() },
        RunsRequest { cursor: given.clone(), ..harness::runs_request("run.seed > 3") },
        RunsRequest { cursor: given.clone(), position: 4, ..first.clone() },
        RunsRequest { cursor: given.clone(), after_run_id: "x".into(), ..first.clone() },
        RunsRequest { cursor: "x".into(), ..first.clone() },
        RunsRequest { cursor: format!("{given}A"), ..first.clone() },
        RunsRequest { group: "x".into(), ..first.clone() },
    ] {
        let status = project.harness.runs(wrong.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}: {status:?}");
    }
    // The size of a page may change from one to the next, and its parts.
    let next = RunsRequest { cursor: given, limit: 0, parts: harness::all_parts(), ..first };
    let rest = project.harness.runs(next).await.unwrap();
    let shown = project.runs.values().filter(|(_, run)| !run.archived).count();
    assert_eq!(rest.runs.len(), shown - 3);
    assert_eq!(cursor(&rest), "", "a list without a limit has no next page");
}

/// Every order of values that runs have, by a sort that the test does itself.
#[tokio::test]
async fn numbers_come_before_texts_and_missing_values_last() {
    let harness = Harness::new().await;
    let values =
        ["null", "[1]", "2", "\"b\"", "true", "0.5", "\"a\"", "-3", "1e300", "-0.0", "9007199254740993"];
    let mut names: HashMap<String, &str> = HashMap::new();
    for (at, value) in values.iter().enumerate() {
        let mut run = spec(&format!("r{at:02}"), 10 + at as i64);
        run.params = map(&format!(r#"{{"p":{value}}}"#));
        names.insert(run.id.clone(), value);
        harness.create(&run).await;
    }
    harness.create(&spec("r99", 5)).await;
    for descending in [false, true] {
        let by = Some(By::Param(ParamPath { segments: vec!["p".into()] }));
        let sort = vec![Sort { by, descending, ..Sort::default() }];
        let found = harness.runs(RunsRequest { sort, ..harness::runs_request("") }).await.unwrap();
        let found: Vec<&str> =
            found.ids().iter().map(|id| names.get(*id).copied().unwrap_or("none")).collect();
        let mut expected =
            vec!["-3", "-0.0", "0.5", "true", "2", "9007199254740993", "1e300", "\"a\"", "\"b\""];
        if descending {
            expected.reverse();
        }
        expected.extend(["null", "[1]", "none"]);
        assert_eq!(found, expected, "{descending}");
    }
}

/// Searches of series continue after runs that were deleted.
#[tokio::test]
async fn searches_of_series_continue_by_cursor() {
    let mut project = Project::new(11, 60).await;
    let list = MetricsRequest { query: harness::query("metric.name == 'loss'"), ..MetricsRequest::default() };
    let id = |found: &RunMetrics| found.run.as_ref().map(|run| run.run_id.clone()).unwrap();
    let whole: Vec<String> = project.harness.metrics(list.clone()).await.unwrap().iter().map(id).collect();
    let mut sent: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = MetricsRequest { limit: 7, cursor, ..list.clone() };
        let mut messages = project.harness.search().metrics(page).await.unwrap().into_inner();
        let mut next = String::new();
        while let Some(message) = messages.message().await.unwrap() {
            sent.extend(message.runs.iter().map(id));
            next = message.next_cursor;
        }
        if next.is_empty() {
            break;
        }
        cursor = next;
        let last = sent.last().cloned().unwrap();
        project.runs.remove(&last);
        project.harness.delete(&last).await;
        project.create().await;
    }
    assert_eq!(sent, whole);
    let wrong = MetricsRequest { limit: 7, cursor: "x".into(), ..list };
    assert_eq!(project.harness.metrics(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
