//! Groups of runs: their values, sizes, and aggregates, and the lists of their runs.

use std::collections::BTreeMap;

use matyan_model::run::{Outcome, OutcomeKind};
use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::ParamPath,
    search::v1::{
        Aggregate, AggregateValue, Group, GroupBy, GroupOrder, GroupsRequest, GroupsResponse, MetricValue,
        RunsRequest, Sort, SortField, aggregate::Of, group_by::By, group_value::Value, sort,
    },
};
use tonic::{Code, Status};

use crate::search::{
    harness::{self, Harness, RunSpec, Sequence, map, spec},
    observed_store::observed,
};

fn path(name: &str) -> ParamPath {
    ParamPath { segments: vec![name.to_owned()] }
}

fn loss() -> SeriesKey {
    SeriesKey { name: "loss".into(), context: "{}".into() }
}

fn by(of: By) -> GroupBy {
    GroupBy { by: Some(of), ..GroupBy::default() }
}

fn aggregate(of: Of) -> Aggregate {
    Aggregate { of: Some(of), ..Aggregate::default() }
}

fn request(text: &str, by: Vec<GroupBy>) -> GroupsRequest {
    GroupsRequest { query: harness::query(text), by, ..GroupsRequest::default() }
}

/// Runs whose values repeat with different periods.
async fn project(runs: i64) -> Harness {
    let harness = Harness::new().await;
    for at in 0..runs {
        let kind = ["1", "1.0", "true", "\"x\"", "\"xy\"", "null", "2"][at as usize % 7];
        let mut run = RunSpec {
            experiment: (at % 3 > 0).then(|| format!("e{}", at % 3)),
            archived: at % 10 == 9,
            active: at % 2 == 0,
            finalized_us: (at % 2 == 1).then_some(at * 1_000 + at % 5),
            outcome: (at % 4 == 1).then(|| Outcome { kind: OutcomeKind::Failed, message: "m".into() }),
            params: map(&format!(r#"{{"kind":{kind},"lr":{}.5}}"#, at % 4)),
            ..spec(&format!("r{at:03}"), at * 1_000)
        };
        if at % 4 > 0 {
            let points = vec![(0, at as f64), (1, f64::NAN), (2, -1.0)];
            let name = "loss".to_owned();
            let context = map("{}");
            let dtype = "float".to_owned();
            run.sequences = vec![Sequence { name, context, dtype, points }];
        }
        harness.create(&run).await;
    }
    harness
}

impl Harness {
    async fn groups(&self, request: GroupsRequest) -> Result<GroupsResponse, Status> {
        Ok(self.search().groups(request).await?.into_inner())
    }
}

fn shown(group: &Group) -> String {
    let shown = |value: &Option<Value>| match value {
        None => "-".to_owned(),
        Some(Value::Text(text)) => format!("{text:?}"),
        Some(Value::Integer(integer)) => integer.to_string(),
        Some(Value::Number(number)) => format!("{number:?}"),
        Some(Value::Flag(flag)) => flag.to_string(),
    };
    group.values.iter().map(|value| shown(&value.value)).collect::<Vec<_>>().join(" ")
}

fn sizes(found: &GroupsResponse) -> Vec<(String, u64)> {
    found.groups.iter().map(|group| (shown(group), group.run_count)).collect()
}

#[tokio::test]
async fn runs_with_equal_values_are_a_group() {
    let harness = project(210).await;
    let all = "run.archived in (True, False)";
    let found = harness.groups(request(all, vec![by(By::Param(path("kind")))])).await.unwrap();
    let expected = [("1", 90), ("2", 30), ("\"x\"", 30), ("\"xy\"", 30), ("-", 30)];
    assert_eq!(sizes(&found), expected.map(|(value, runs)| (value.to_owned(), runs)));
    assert_eq!((found.group_count, found.run_count, found.next_cursor.as_str()), (5, 210, ""));
    let found = harness.groups(request("", vec![by(By::Field(SortField::Experiment.into()))])).await.unwrap();
    let mut counted = BTreeMap::new();
    for at in (0..210).filter(|at| at % 10 != 9) {
        let name = if at % 3 > 0 { format!("\"e{}\"", at % 3) } else { "-".to_owned() };
        *counted.entry(name).or_insert(0) += 1;
    }
    assert_eq!(sizes(&found).into_iter().collect::<BTreeMap<_, _>>(), counted);
    assert_eq!(found.run_count, 189);
    let found = harness.groups(request(all, vec![by(By::Field(SortField::Outcome.into()))])).await.unwrap();
    let expected = [("\"active\"", 105), ("\"failed\"", 53), ("-", 52)];
    assert_eq!(sizes(&found), expected.map(|(value, runs)| (value.to_owned(), runs)));
}

#[tokio::test]
async fn runs_are_sorted_by_their_ends_and_the_active_ones_are_last() {
    let harness = project(12).await;
    for descending in [false, true] {
        let by = Some(sort::By::Field(SortField::Ended.into()));
        let list = RunsRequest {
            sort: vec![Sort { by, descending, ..Sort::default() }],
            ..harness::runs_request("")
        };
        let found = harness.runs(list).await.unwrap();
        let mut ended = ["r001", "r003", "r005", "r007", "r011"];
        if descending {
            ended.reverse();
        }
        assert_eq!(found.ids()[..5], ended);
        assert_eq!(found.ids()[5..], ["r000", "r002", "r004", "r006", "r008", "r010"]);
    }
}

#[tokio::test]
async fn aggregates_are_of_finite_numbers() {
    let harness = project(210).await;
    let metric =
        |value: MetricValue| Aggregate { metric_value: value.into(), ..aggregate(Of::Metric(loss())) };
    let aggregates = vec![
        metric(MetricValue::First),
        metric(MetricValue::Min),
        aggregate(Of::Param(path("lr"))),
        aggregate(Of::Param(path("kind"))),
        aggregate(Of::Field(SortField::Duration.into())),
    ];
    let list = GroupsRequest {
        aggregates,
        ..request("not run.active", vec![by(By::Field(SortField::Experiment.into()))])
    };
    let found = harness.groups(list).await.unwrap();
    for group in &found.groups {
        let name = shown(group);
        let is_in = |at: &i64| {
            let own = if at % 3 > 0 { format!("\"e{}\"", at % 3) } else { "-".to_owned() };
            at % 2 == 1 && at % 10 != 9 && own == name
        };
        let runs: Vec<i64> = (0..210).filter(is_in).collect();
        assert_eq!(group.run_count, runs.len() as u64);
        let check = |index: usize, values: Vec<f64>| {
            let found = &group.aggregates[index];
            assert_eq!(found.count, values.len() as u64, "{name} {index}");
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            assert!((found.mean.unwrap() - mean).abs() < 1e-6, "{name} {index}: {found:?} instead of {mean}");
            assert_eq!(found.min, values.iter().copied().reduce(f64::min), "{name} {index}");
            assert_eq!(found.max, values.iter().copied().reduce(f64::max), "{name} {index}");
        };
        let logged: Vec<i64> = runs.iter().copied().filter(|at| at % 4 > 0).collect();
        check(0, logged.iter().map(|at| *at as f64).collect());
        check(1, logged.iter().map(|_| -1.0).collect());
        check(2, runs.iter().map(|at| (at % 4) as f64 + 0.5).collect());
        let kinds = runs
            .iter()
            .filter_map(|at| [Some(1.0), Some(1.0), None, None, None, None, Some(2.0)][*at as usize % 7]);
        check(3, kinds.collect());
        check(4, runs.iter().map(|at| (at % 5) as f64).collect());
    }
    let none = GroupsRequest {
        aggregates: vec![aggregate(Of::Param(path("missing")))],
        ..request("", vec![by(By::Param(path("kind")))])
    };
    let found = harness.groups(none).await.unwrap();
    assert!(!found.groups.is_empty());
    assert!(found.groups.iter().all(|group| group.aggregates[0] == Default::default()), "{found:?}");
}

#[tokio::test]
async fn groups_come_in_pages_in_every_order() {
    let harness = project(120).await;
    let keys = || {
        vec![
            by(By::Param(path("kind"))),
            by(By::Param(path("lr"))),
            by(By::Field(SortField::Experiment.into())),
        ]
    };
    for order in [GroupOrder::Values, GroupOrder::Count, GroupOrder::Mean, GroupOrder::Min, GroupOrder::Max] {
        for (descending, order_aggregate) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
            let list = GroupsRequest {
                order_aggregate,
                aggregates: vec![aggregate(Of::Metric(loss())), aggregate(Of::Param(path("lr")))],
                order: order.into(),
                descending,
                limit: 1_000,
                ..request("run.lr > 0", keys())
            };
            let whole = harness.groups(list.clone()).await.unwrap();
            assert_eq!(whole.group_count, whole.groups.len() as u64);
            let mut distinct: Vec<String> = whole.groups.iter().map(shown).collect();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), whole.groups.len(), "every group is its own");
            let mut paged: Vec<Group> = Vec::new();
            let mut cursor = String::new();
            loop {
                let found = harness.groups(GroupsRequest { limit: 7, cursor, ..list.clone() }).await.unwrap();
                assert!(found.groups.len() <= 7);
                assert_eq!((found.group_count, found.run_count), (whole.group_count, whole.run_count));
                paged.extend(found.groups);
                cursor = found.next_cursor;
                if cursor.is_empty() {
                    break;
                }
            }
            assert_eq!(paged, whole.groups, "{order:?} {descending}");
            let number = |group: &Group| match group.aggregates[order_aggregate as usize] {
                AggregateValue { mean, .. } if order == GroupOrder::Mean => mean,
                AggregateValue { min, .. } if order == GroupOrder::Min => min,
                AggregateValue { max, .. } if order == GroupOrder::Max => max,
                _ => None,
            };
            let numbers: Vec<f64> = paged.iter().map_while(number).collect();
            assert!(
                paged[numbers.len()..].iter().all(|group| number(group).is_none()),
                "absent ones are last"
            );
            assert!(if descending { numbers.is_sorted_by(|a, b| a >= b) } else { numbers.is_sorted() });
            if order == GroupOrder::Count {
                let counts: Vec<u64> = paged.iter().map(|group| group.run_count).collect();
                assert!(if descending { counts.is_sorted_by(|a, b| a >= b) } else { counts.is_sorted() });
            }
        }
    }
}

#[tokio::test]
async fn a_walk_through_groups_ends_while_groups_are_added() {
    let harness = Harness::new().await;
    let create = async |at: u64| {
        let params = map(&format!(r#"{{"at":{at}}}"#));
        harness.create(&RunSpec { params, ..spec(&format!("r{at}"), at as i64) }).await;
    };
    for at in 0..3 {
        create(at).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for added in 3.. {
        let list =
            GroupsRequest { limit: 1, cursor, ..request("run.at >= 0", vec![by(By::Param(path("at")))]) };
        let found = harness.groups(list).await.unwrap();
        assert_eq!((found.group_count, found.run_count), (3, 3));
        seen.extend(found.groups.iter().map(shown));
        cursor = found.next_cursor;
        if cursor.is_empty() {
            break;
        }
        create(added).await;
    }
    assert_eq!(seen, ["0", "1", "2"]);
}

/// Parts that each match most runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_many_broad_parts_does_not_read_each_from_an_index() {
    const RUNS: u64 = 2_000;
    const PARTS: u64 = 1_000;
    let (harness, observer) = observed().await;
    for at in 0..RUNS {
        harness
            .create(&RunSpec { params: map(&format!(r#"{{"x":{at}}}"#)), ..spec(&format!("r{at}"), 1) })
            .await;
    }
    let parts: Vec<String> = (0..PARTS).map(|at| format!("run.x > {at}")).collect();
    let list = request(&parts.join(" or "), vec![by(By::Field(SortField::Experiment.into()))]);
    let before = observer.index_rows();
    let found = harness.groups(list).await.unwrap();
    assert_eq!(found.run_count, RUNS - 1);
    let rows = observer.index_rows() - before;
    assert!(rows < RUNS * PARTS / 2, "{rows}");
}

#[tokio::test]
async fn the_runs_of_a_group_are_listed() {
    let harness = project(150).await;
    let keys = vec![by(By::Param(path("kind"))), by(By::Field(SortField::Experiment.into()))];
    let list = request("run.archived in (True, False)", keys);
    let found = harness.groups(list.clone()).await.unwrap();
    let mut seen = Vec::new();
    for group in &found.groups {
        let sort = vec![Sort { by: Some(sort::By::Metric(loss())), ..Sort::default() }];
        for sort in [Vec::new(), sort] {
            let base = RunsRequest {
                query: list.query.clone(),
                sort,
                group: group.token.clone(),
                ..RunsRequest::default()
            };
            let whole = harness.runs(base.clone()).await.unwrap();
            assert_eq!(whole.runs.len() as u64, group.run_count, "{}", shown(group));
            let mut paged: Vec<String> = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = harness.runs(RunsRequest { limit: 4, cursor, ..base.clone() }).await.unwrap();
                paged.extend(page.ids().iter().map(ToString::to_string));
                cursor = page.messages.last().unwrap().next_cursor.clone();
                if cursor.is_empty() {
                    break;
                }
            }
            assert_eq!(paged, whole.ids());
            if base.sort.is_empty() {
                seen.extend(paged);
            }
        }
    }
    seen.sort();
    assert_eq!(seen, (0..150).map(|at| format!("r{at:03}")).collect::<Vec<_>>(), "every run is in one group");
}

/// A renamed experiment is a new group, without a change of its runs.
#[tokio::test]
async fn groups_have_the_current_names() {
    use matyan_model::{
        entity::{EntityError, Experiment, entity_put},
        ids::Project,
    };
    let harness = project(30).await;
    let list = request("", vec![by(By::Field(SortField::Experiment.into()))]);
    assert_eq!(sizes(&harness.groups(list.clone()).await.unwrap())[0].0, "-");
    harness
        .transact(async |transaction| {
            let renamed =
                entity_put::<Experiment, EntityError>(transaction, Project(0), "experiment-e1", |it| {
                    it.name = "z".into();
                    Ok(())
                });
            renamed.await.unwrap();
            Ok(())
        })
        .await;
    let found = sizes(&harness.groups(list).await.unwrap());
    assert_eq!(found.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["-", "\"e2\"", "\"z\""]);
}

/// Values to offer while a user types.
#[tokio::test]
async fn values_with_a_prefix_are_found() {
    let harness = project(70).await;
    let list = |prefix: &str, limit| GroupsRequest {
        prefix: prefix.into(),
        limit,
        order: GroupOrder::Count.into(),
        descending: true,
        ..request("run.archived in (True, False)", vec![by(By::Param(path("kind")))])
    };
    for (prefix, limit, expected) in
        [("x", 0, &["\"x\"", "\"xy\""][..]), ("xy", 0, &["\"xy\""]), ("x", 1, &["\"x\""]), ("z", 0, &[])]
    {
        let found = harness.groups(list(prefix, limit)).await.unwrap();
        assert_eq!(found.groups.iter().map(shown).collect::<Vec<_>>(), expected, "{prefix}");
    }
}

#[tokio::test]
async fn invalid_groups_are_refused() {
    let harness = project(10).await;
    let kind = || by(By::Param(path("kind")));
    let valid = || request("", vec![kind()]);
    let cases = [
        (GroupsRequest { by: Vec::new(), ..valid() }, Code::InvalidArgument, "by"),
        (GroupsRequest { by: vec![kind(); 4], ..valid() }, Code::ResourceExhausted, "by"),
        (GroupsRequest { by: vec![GroupBy::default()], ..valid() }, Code::InvalidArgument, "by"),
        (request("", vec![by(By::Field(SortField::Created.into()))]), Code::InvalidArgument, "by"),
        (request("", vec![by(By::Field(SortField::Ended.into()))]), Code::InvalidArgument, "by"),
        (request("run.", vec![kind()]), Code::InvalidArgument, "line 1"),
        (
            GroupsRequest { aggregates: vec![Aggregate::default()], ..valid() },
            Code::InvalidArgument,
            "aggregates",
        ),
        (
            GroupsRequest { aggregates: vec![aggregate(Of::Field(SortField::Name.into()))], ..valid() },
            Code::InvalidArgument,
            "aggregates",
        ),
        (GroupsRequest { order: GroupOrder::Mean.into(), ..valid() }, Code::InvalidArgument, "order"),
        (
            GroupsRequest {
                aggregates: vec![aggregate(Of::Param(path("lr")))],
                order: GroupOrder::Max.into(),
                order_aggregate: 1,
                ..valid()
            },
            Code::InvalidArgument,
            "order_aggregate",
        ),
        (GroupsRequest { order: 99, ..valid() }, Code::InvalidArgument, "order"),
        (GroupsRequest { limit: 1_001, ..valid() }, Code::ResourceExhausted, "limit"),
        (GroupsRequest { cursor: "x".into(), ..valid() }, Code::InvalidArgument, "cursor"),
    ];
    for (request, code, reason) in cases {
        let status = harness.groups(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{request:?}: {status:?}");
        assert!(status.message().contains(reason), "{status:?}");
    }
}
