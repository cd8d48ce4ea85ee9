//! Batches with a page that fails: the error says how many runs were done before, and the others are
//! unchanged.

use matyan_proto::runs::v1::{add_tag_batch_request::Tag, run_service_client::RunServiceClient, *};
use matyan_store::layers::{Fault, Faults};
use tonic::{Code, Response, Status, service::Routes};

use crate::backend::harness::{Harness, failure};

/// Runs of the first page, and of the second one.
const PAGE: usize = 100;
const REST: usize = 50;

/// Calls to the store before the one that fails: of the first page, which needs one for each run and a few more, and
/// some of the second page.
const CALLS: usize = PAGE + REST / 2;

type Client = RunServiceClient<Routes>;

/// Checks the error of a call whose second page has failed.
#[track_caller]
fn check_partial<T>(answered: Result<Response<T>, Status>) {
    let status = answered.map(|_| ()).unwrap_err();
    assert!(status.message().contains("the first 100 runs are done"), "{status}");
    let (code, reason, metadata) = failure::<()>(Err(status));
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(metadata, [("done".to_owned(), PAGE.to_string())]);
}

#[tokio::test]
async fn a_batch_that_fails_half_way_reports_how_many_runs_are_done() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let run_ids: Vec<String> = (0..PAGE + REST).map(|number| format!("r{number:03}")).collect();
    harness.create(&run_ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let fail_second_page = || {
        let faults = std::iter::repeat_n(Fault::None, CALLS).chain([Fault::Error]);
        harness.faults.set_faults(Faults::script(faults));
    };
    // For each run, whether the batch has changed it.
    let check_done = async |client: &mut Client, is_done: fn(Result<Props, Status>) -> bool| {
        harness.faults.set_faults(Faults::script([]));
        let mut done = Vec::new();
        for run_id in &run_ids {
            let parts = Some(RunParts { props: true, ..RunParts::default() });
            let got = client.get(GetRequest { run_id: run_id.clone(), parts }).await;
            done.push(is_done(got.map(|got| got.into_inner().run.unwrap().props.unwrap())));
        }
        assert_eq!(done, [vec![true; PAGE], vec![false; REST]].concat());
    };

    let tag = Some(Tag::TagName("t".into()));
    let request = AddTagBatchRequest { run_ids: run_ids.clone(), tag };
    fail_second_page();
    check_partial(client.add_tag_batch(request.clone()).await);
    check_done(&mut client, |props| !props.unwrap().tags.is_empty()).await;
    // The call can be continued as well as repeated.
    let rest = AddTagBatchRequest { run_ids: run_ids[PAGE..].to_vec(), ..request.clone() };
    assert_eq!(client.add_tag_batch(rest).await.unwrap().into_inner().changed, REST as u32);
    assert_eq!(client.add_tag_batch(request).await.unwrap().into_inner().changed, 0);

    fail_second_page();
    let request = ArchiveBatchRequest { run_ids: run_ids.clone(), archived: true };
    check_partial(client.archive_batch(request).await);
    check_done(&mut client, |props| props.unwrap().archived).await;

    fail_second_page();
    check_partial(client.delete_batch(DeleteBatchRequest { run_ids: run_ids.clone() }).await);
    check_done(&mut client, |props| props.is_err_and(|status| status.code() == Code::NotFound)).await;

    // Without a page that is done, there is nothing to report.
    harness.faults.set_faults(Faults::script([Fault::Error]));
    let request = ArchiveBatchRequest { run_ids: run_ids[PAGE..].to_vec(), archived: true };
    let (code, _, metadata) = failure(client.archive_batch(request).await);
    assert_eq!((code, metadata), (Code::Unavailable, Vec::new()));
    harness.end().await;
}
