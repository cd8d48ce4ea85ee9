//! Contents of tables of runs after repairs of indexes, with long texts, and with runs that are not
//! fully indexed.

use std::collections::BTreeMap;

use matyan_model::{index::Scalar, keys};
use matyan_proto::{
    admin::v1::{ReindexRequest, admin_service_client::AdminServiceClient},
    runs::v1::ParamPath,
    search::v1::{GroupBy, GroupsRequest, RunsRequest, Sort, group_by, group_value::Value, sort::By},
};
use matyan_store::{Batch, Store};

use crate::search::{
    harness::{self, Harness, P, map, spec},
    observed_store::observed,
};

fn param(name: &str) -> ParamPath {
    ParamPath { segments: vec![name.to_owned()] }
}

fn sorted_by(by: By) -> RunsRequest {
    let sort = vec![Sort { by: Some(by), ..Sort::default() }];
    RunsRequest { sort, ..harness::runs_request("") }
}

pub(super) async fn reindex(harness: &Harness) {
    let mut client = AdminServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = client.reindex(ReindexRequest::default()).await.unwrap().into_inner();
    while messages.message().await.unwrap().is_some() {}
}

/// A table that was read from wrong rows is right after their repair.
#[tokio::test]
async fn tables_follow_a_repair_of_indexes() {
    let harness = Harness::new().await;
    let mut numbers = Vec::new();
    for (at, lr) in (0..).zip([1, 2, 3, 4]) {
        let mut run = spec(&format!("r{at}"), 10 + at);
        run.params = map(&format!(r#"{{"lr":{lr}}}"#));
        numbers.push(harness.create(&run).await);
    }
    harness.delete("r3").await;
    let row = |lr: f64, number| keys::index_param(P, &["lr".into()], &Scalar::Number(lr).key(), number);
    let mut batch = Batch::default();
    // The first run is missing, the second has another value, and a deleted run is listed.
    batch.clear(keys::index_archived(P, false, numbers[0]));
    batch.clear(row(2.0, numbers[1])).set(row(9.0, numbers[1]), vec![2]);
    batch.set(keys::index_archived(P, false, numbers[3]), Vec::new());
    harness.store.commit(batch).await.unwrap();
    let list = RunsRequest { ids_only: true, ..sorted_by(By::Param(param("lr"))) };
    let ids = async || {
        let found = harness.runs(list.clone()).await.unwrap();
        found.messages.into_iter().flat_map(|message| message.run_ids).collect::<Vec<_>>()
    };
    // The documents decide about params that are in no column yet.
    assert_eq!(ids().await, ["r1", "r2", "r3"], "indexes are wrong");
    reindex(&harness).await;
    assert_eq!(ids().await, ["r0", "r1", "r2"]);
}

/// Texts of nearly a megabyte that differ only at their ends.
#[tokio::test]
async fn lists_sorted_by_long_texts_continue() {
    let harness = Harness::new().await;
    let long = "é".repeat(450_000);
    let mut numbers = BTreeMap::new();
    for at in 0..12 {
        let mut run = spec(&format!("r{at:02}"), 10 + at);
        let text = match at {
            0 => "a".to_owned(),
            1 => "ê".to_owned(),
            at => format!("{long}{}", at / 2),
        };
        run.params = map(&format!(r#"{{"text":"{text}"}}"#));
        numbers.insert(run.id.clone(), harness.create(&run).await);
    }
    for descending in [false, true] {
        let by = Some(By::Param(param("text")));
        let sort = vec![Sort { by, descending, ..Sort::default() }];
        let list = RunsRequest { sort, ..harness::runs_request("") };
        let whole: Vec<String> =
            harness.runs(list.clone()).await.unwrap().ids().iter().map(ToString::to_string).collect();
        let ends = [whole[0].as_str(), whole.last().unwrap().as_str()];
        assert_eq!(ends, if descending { ["r01", "r00"] } else { ["r00", "r01"] });
        let pairs: Vec<(&str, &str)> =
            whole[1..11].chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        for (a, b) in pairs {
            let number = |id: &str| id[1..].parse::<u32>().unwrap();
            assert!(
                number(a) % 2 == 0 && number(b) == number(a) + 1,
                "equal texts are ordered by id: {a} {b}"
            );
        }
        let mut sent: Vec<String> = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = harness.runs(RunsRequest { limit: 1, cursor, ..list.clone() }).await.unwrap();
            sent.extend(page.ids().iter().map(ToString::to_string));
            cursor = page.messages.last().unwrap().next_cursor.clone();
            assert!(cursor.len() < 4_096, "{}", cursor.len());
            if cursor.is_empty() {
                break;
            }
            // A place among long texts remains when its run has moved.
            if sent.len() == 4 && descending {
                let mut run = spec(sent.last().unwrap(), 10);
                run.params = map(r#"{"text":"ö"}"#);
                harness.change(numbers[run.id.as_str()], &run).await;
            }
        }
        assert_eq!(sent, whole, "{descending}");
    }
}

#[tokio::test]
async fn groups_of_long_texts_have_a_beginning_and_a_token() {
    let harness = Harness::new().await;
    let long = "é".repeat(40_000);
    for at in 0..6 {
        let mut run = spec(&format!("r{at}"), 10 + at);
        run.params = map(&format!(r#"{{"text":"{long}{}"}}"#, at % 2));
        harness.create(&run).await;
    }
    let by = vec![GroupBy { by: Some(group_by::By::Param(param("text"))), ..GroupBy::default() }];
    let list =
        GroupsRequest {
            query: harness::query(""), by, prefix: "éé".into(), limit: 1, ..Default::default()
        };
    let mut runs: Vec<String> = Vec::new();
    let mut cursor = String::new();
    for more in [true, false] {
        let page =
            harness.search().groups(GroupsRequest { cursor, ..list.clone() }).await.unwrap().into_inner();
        assert_eq!((page.groups.len(), page.group_count), (1, 2));
        let group = &page.groups[0];
        assert_eq!(group.values[0].value, Some(Value::Text("é".repeat(512))));
        let own = RunsRequest { group: group.token.clone(), ..harness::runs_request("") };
        runs.extend(harness.runs(own).await.unwrap().ids().iter().map(ToString::to_string));
        cursor = page.next_cursor;
        assert_eq!(cursor.is_empty(), !more);
    }
    let mut halves = [runs[..3].to_vec(), runs[3..].to_vec()];
    halves.sort();
    assert_eq!(halves, [["r4", "r2", "r0"], ["r5", "r3", "r1"]]);
    let prefix = "é".repeat(513);
    assert!(harness.search().groups(GroupsRequest { prefix, ..list }).await.is_err());
}

/// A text that is too long to index affects its own column only.
#[tokio::test]
async fn a_long_text_leaves_other_columns_to_their_index() {
    let (harness, observer) = observed().await;
    for at in 0..200 {
        let mut run = spec(&format!("r{at:03}"), 10 + at);
        let text = format!("{}{:03}", "x".repeat(300), 200 - at);
        run.params = map(&format!(r#"{{"lr":{at},"text":"{text}"}}"#));
        harness.create(&run).await;
    }
    harness.collect_params(64).await;
    let before = observer.documents();
    let ids = async |by| {
        let found =
            harness.runs(RunsRequest { ids_only: true, ..sorted_by(By::Param(param(by))) }).await.unwrap();
        found.messages.into_iter().flat_map(|message| message.run_ids).collect::<Vec<_>>()
    };
    let rising: Vec<String> = (0..200).map(|at| format!("r{at:03}")).collect();
    assert_eq!(ids("lr").await, rising);
    assert_eq!(observer.documents() - before, 0);
    assert!(ids("text").await.iter().eq(rising.iter().rev()));
    assert_eq!(observer.documents() - before, 200);
}
