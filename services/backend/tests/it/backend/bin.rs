//! The bin: runs that are hidden for a week.

use matyan_model::{
    ids::Project,
    keys,
    run::{BIN_KEPT_US, bin_due_page, bin_purge_begin},
};
use matyan_proto::{
    backup::v1::{
        BeginRunRequest, FinishRunRequest, ListRunsRequest, ReadRunRequest,
        backup_service_client::BackupServiceClient,
    },
    project::v1::{ActivityRequest, project_service_client::ProjectServiceClient},
    runs::v1::{run_service_client::RunServiceClient, *},
    search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient},
};
use matyan_store::{Store as _, Transaction, transact};
use tonic::{Code, service::Routes};

use crate::backend::{
    harness::{Harness, all, create, experiment, line, not_found, params, tag},
    projects::of,
};

type Client = RunServiceClient<Routes>;

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Harness {
    async fn bin(&self, names: &[&str]) -> BinBatchResponse {
        let request = BinBatchRequest { run_ids: ids(names) };
        Client::new(self.routes()).bin_batch(request).await.unwrap().into_inner()
    }

    async fn unbin(&self, names: &[&str]) -> RestoreBatchResponse {
        let request = RestoreBatchRequest { run_ids: ids(names) };
        Client::new(self.routes()).restore_batch(request).await.unwrap().into_inner()
    }

    /// Ids of the runs in the bin.
    async fn binned(&self) -> Vec<String> {
        let pieces = all(Client::new(self.routes()).list_bin(ListBinRequest::default()).await.unwrap()).await;
        pieces.into_iter().flat_map(|piece| piece.runs).map(|binned| binned.run.unwrap().run_id).collect()
    }

    /// Ids of the runs on a page of the bin, and the cursor of the next page.
    async fn binned_page(&self, limit: u32, cursor: &str) -> (Vec<String>, String) {
        let request = ListBinRequest { limit, cursor: cursor.to_owned() };
        let mut pieces = all(Client::new(self.routes()).list_bin(request).await.unwrap()).await;
        let next_cursor = pieces.last_mut().map(|piece| std::mem::take(&mut piece.next_cursor));
        let runs = pieces.into_iter().flat_map(|piece| piece.runs);
        (runs.map(|binned| binned.run.unwrap().run_id).collect(), next_cursor.unwrap_or_default())
    }

    /// Ids of the runs in lists, which are those that searches find.
    async fn shown(&self) -> Vec<String> {
        let request = ListRequest { page_size: 9, ..ListRequest::default() };
        let listed = Client::new(self.routes()).list(request).await.unwrap().into_inner();
        let listed: Vec<String> = listed.runs.into_iter().map(|run| run.run_id).collect();
        let query = Some(Query { text: "run.archived in (True, False)".into(), ..Query::default() });
        let request = RunsRequest { query, ..RunsRequest::default() };
        let pieces = all(SearchServiceClient::new(self.routes()).runs(request).await.unwrap()).await;
        let found: Vec<String> =
            pieces.into_iter().flat_map(|piece| piece.runs).map(|run| run.run_id).collect();
        assert_eq!(found, listed);
        listed
    }

    async fn run_count(&self) -> u32 {
        let mut client = ProjectServiceClient::new(self.routes());
        client.activity(ActivityRequest::default()).await.unwrap().into_inner().run_count
    }
}

#[tokio::test]
async fn rule_107_a_run_in_the_bin_is_found_nowhere_else_until_it_comes_back() {
    let harness = Harness::new().await;
    harness.log("r", [create(), experiment("e"), tag("t"), params(r#"{"lr": 1}"#)]).await;
    harness.create(&["s"]).await;
    let get = async || {
        let parts = Some(RunParts { props: true, params: true, ..RunParts::default() });
        Client::new(harness.routes()).get(GetRequest { run_id: "r".into(), parts }).await
    };
    let before = get().await.unwrap().into_inner().run.unwrap();
    assert_eq!(harness.bin(&["r", "unknown"]).await.unknown, ["unknown"]);
    assert_eq!((harness.shown().await, harness.binned().await), (ids(&["s"]), ids(&["r"])));
    assert_eq!(harness.run_count().await, 1);
    not_found(get().await, "run", "r");
    assert_eq!(harness.bin(&["r"]).await.unknown, ["r"], "it is not visible any more");

    // What its client sends in the meantime is kept.
    harness.log("r", [params(r#"{"later": 2}"#), line(0, "x")]).await;
    harness.applied().await;
    assert_eq!(harness.shown().await, ["s"]);
    assert_eq!(harness.unbin(&["r", "s", "unknown"]).await.unknown, ["unknown"]);
    assert_eq!(harness.shown().await.len(), 2);
    assert!(harness.binned().await.is_empty() && harness.run_count().await == 2);
    let after = get().await.unwrap().into_inner().run.unwrap();
    let props = |run: &Run| run.props.clone().unwrap();
    assert_eq!(props(&after).tags, props(&before).tags);
    assert_eq!(props(&after).experiment, props(&before).experiment);
    assert!(after.params.len() > before.params.len());
    harness.end().await;
}

#[tokio::test]
async fn runs_that_come_and_go_do_not_shift_the_pages_of_the_bin() {
    let harness = Harness::new().await;
    let names = ["a", "b", "c", "d", "e"];
    harness.create(&names).await;
    harness.create(&["new"]).await;
    for name in names {
        harness.bin(&[name]).await;
    }
    let (first, cursor) = harness.binned_page(2, "").await;
    assert_eq!(first, ["e", "d"]);
    harness.bin(&["new"]).await;
    harness.unbin(&["d"]).await;
    let (second, cursor) = harness.binned_page(2, &cursor).await;
    assert_eq!(second, ["c", "b"]);
    let (third, cursor) = harness.binned_page(2, &cursor).await;
    assert_eq!((third, cursor.as_str()), (ids(&["a"]), ""));
    assert_eq!(harness.binned().await, ["new", "e", "c", "b", "a"]);
    for cursor in ["x", "1", "+1.1", "1.1.1"] {
        let request = ListBinRequest { limit: 2, cursor: cursor.to_owned() };
        let status = Client::new(harness.routes()).list_bin(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{cursor}");
        assert!(status.message().contains("`cursor`"), "{status}");
    }
    harness.end().await;
}

#[tokio::test]
async fn a_delete_takes_a_run_out_of_the_bin_for_good() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.bin(&["r"]).await;
    Client::new(harness.routes()).delete(DeleteRequest { run_id: "r".into() }).await.unwrap();
    assert!(harness.binned().await.is_empty());
    assert_eq!(harness.unbin(&["r"]).await.unknown, ["r"]);
    harness.applied().await;
    assert_eq!(harness.unbin(&["r"]).await.unknown, ["r"]);
    harness.end().await;
}

#[tokio::test]
async fn rule_107_a_backup_has_the_runs_in_the_bin_for_another_week() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.bin(&["r"]).await;
    let mut client = BackupServiceClient::new(harness.routes());
    let listed = all(client.list_runs(ListRunsRequest::default()).await.unwrap()).await;
    assert_eq!(listed.into_iter().flat_map(|piece| piece.run_ids).collect::<Vec<_>>(), ["r"]);
    let read = client.read_run(ReadRunRequest { run_id: "r".into() }).await.unwrap();
    let head = all(read).await.remove(0).head.unwrap();
    assert!(head.binned_us.is_some());

    // The archive is older than the week.
    harness.advance_clock(2 * BIN_KEPT_US / 1_000_000);
    let restored_us = harness.now_us();
    harness.create_project("copy").await;
    let source = vec![1; 32];
    let created_us = head.created_us;
    let begin =
        BeginRunRequest { run_id: "r".into(), source: source.clone().into(), created_us, dry_run: false };
    client.begin_run(of("copy", begin)).await.unwrap();
    let finish = FinishRunRequest { run_id: "r".into(), source: source.into(), head: Some(head), cut: None };
    client.finish_run(of("copy", finish)).await.unwrap();
    let mut runs = Client::new(harness.routes());
    let binned = all(runs.list_bin(of("copy", ListBinRequest::default())).await.unwrap()).await;
    let purged_us: Vec<i64> = binned.iter().flat_map(|piece| &piece.runs).map(|run| run.purged_us).collect();
    assert!(
        matches!(*purged_us, [at] if at >= restored_us + BIN_KEPT_US),
        "its week starts again: {purged_us:?}"
    );
    let list = ListRequest { page_size: 9, ..ListRequest::default() };
    assert!(runs.list(of("copy", list)).await.unwrap().into_inner().runs.is_empty());
    harness.end().await;
}

/// Its deletion may not be in the log yet.
#[tokio::test]
async fn a_backup_leaves_out_a_run_whose_purge_has_begun() {
    const P: Project = Project(0);
    let harness = Harness::new().await;
    harness.create(&["r", "kept"]).await;
    harness.bin(&["r"]).await;
    let snapshot = harness.store.snapshot().await.unwrap();
    let (due, _) = bin_due_page(&*snapshot, P, &keys::index_binned_all(P), 10, i64::MAX).await.unwrap();
    drop(snapshot);
    let begin = async |mut transaction: Transaction| {
        let purged = bin_purge_begin(&mut transaction, P, due[0], i64::MAX).await?;
        Ok::<_, matyan_store::Error>((transaction, purged))
    };
    let (purged, _) = transact(&*harness.store, begin).await.unwrap();
    assert_eq!(purged.unwrap().as_str(), "r");
    let mut client = BackupServiceClient::new(harness.routes());
    let listed = all(client.list_runs(ListRunsRequest::default()).await.unwrap()).await;
    assert_eq!(listed.into_iter().flat_map(|piece| piece.run_ids).collect::<Vec<_>>(), ["kept"]);
    not_found(client.read_run(ReadRunRequest { run_id: "r".into() }).await, "run", "r");
    harness.end().await;
}
