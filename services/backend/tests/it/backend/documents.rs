//! Named documents: found by kind and name, replaced only by a caller that has read them, and listed by name.

use bytes::Bytes;
use matyan_model::project_quota::{ProjectQuotas, Quota};
use matyan_proto::{
    access::v1::{ListEntriesRequest, audit_service_client::AuditServiceClient},
    admin::v1::{UsageRequest, admin_service_client::AdminServiceClient},
    documents::v1::{document_service_client::DocumentServiceClient, *},
    limits,
};
use tonic::{Code, Request, service::Routes};

use crate::backend::harness::{Harness, all, failure, not_found, wrong_field};

type Client = DocumentServiceClient<Routes>;

fn write(name: &str, content: &[u8], if_updated_us: Option<i64>) -> WriteRequest {
    WriteRequest {
        kind: "model".into(),
        name: name.into(),
        content: Bytes::copy_from_slice(content),
        if_updated_us,
        deletes: false,
    }
}

fn get(name: &str) -> GetRequest {
    GetRequest { kind: "model".into(), name: name.into() }
}

fn delete(name: &str, if_updated_us: Option<i64>) -> DeleteRequest {
    DeleteRequest { kind: "model".into(), name: name.into(), if_updated_us }
}

async fn names(client: &mut Client, kind: &str, name_prefix: &str) -> Vec<String> {
    let request = ListRequest { kind: kind.into(), name_prefix: name_prefix.into() };
    let listed = all(client.list(request).await.unwrap()).await;
    listed.into_iter().flat_map(|message| message.documents).map(|document| document.name).collect()
}

#[tokio::test]
async fn rule_96_a_document_is_replaced_only_by_a_caller_that_has_read_it() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let first = client.write(write("a", b"1", Some(0))).await.unwrap().into_inner().updated_us;
    assert_eq!(failure(client.write(write("a", b"2", Some(0))).await).0, Code::Aborted, "there is one");
    let second = client.write(write("a", b"2", Some(first))).await.unwrap().into_inner().updated_us;
    assert!(second > first, "every change increases the version, even if the clock stands still");
    assert_eq!(failure(client.write(write("a", b"3", Some(first))).await).0, Code::Aborted);
    let document = client.get(get("a")).await.unwrap().into_inner().document.unwrap();
    assert_eq!((document.content.as_ref(), document.updated_us), (&b"2"[..], second));
    assert_eq!((document.kind.as_str(), document.name.as_str()), ("model", "a"));
    assert_eq!(failure(client.write(write("b", b"1", Some(first))).await).0, Code::Aborted, "there is none");
    assert_eq!(failure(client.delete(delete("a", Some(first))).await).0, Code::Aborted);
    client.delete(delete("a", Some(second))).await.unwrap();
    not_found(client.delete(delete("a", None)).await, "document", "model/a");
    not_found(client.get(get("a")).await, "document", "model/a");
    harness.end().await;
}

fn rename(name: &str, new_name: &str, if_updated_us: Option<i64>) -> RenameRequest {
    RenameRequest { kind: "model".into(), name: name.into(), new_name: new_name.into(), if_updated_us }
}

#[tokio::test]
async fn a_document_is_renamed_in_one_step() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes()).max_decoding_message_size(limits::MESSAGE_BYTES);
    // The content is in several pieces, and no piece stays under the earlier name.
    let content = vec![b'x'; limits::NAMED_DOCUMENT_BYTES];
    let written = client.write(write("a", &content, None)).await.unwrap().into_inner().updated_us;
    client.write(write("taken", b"1", None)).await.unwrap();
    let other = rename("a", "b", Some(written - 1));
    assert_eq!(failure(client.rename(other).await).0, Code::Aborted);
    for taken in ["taken", "a"] {
        assert_eq!(failure(client.rename(rename("a", taken, None)).await).0, Code::AlreadyExists);
    }
    let renamed = client.rename(rename("a", "b", Some(written))).await.unwrap().into_inner();
    let renamed = renamed.document.unwrap();
    assert_eq!((renamed.kind.as_str(), renamed.name.as_str()), ("model", "b"));
    assert!(
        renamed.updated_us > written,
        "every change increases the version, even if the clock stands still"
    );
    assert_eq!(client.get(get("b")).await.unwrap().into_inner().document.unwrap(), renamed);
    assert_eq!(renamed.content, content);
    assert_eq!(names(&mut client, "model", "").await, ["b", "taken"]);
    not_found(client.rename(rename("a", "c", None)).await, "document", "model/a");
    not_found(client.get(get("a")).await, "document", "model/a");
    // The earlier name is free for another document.
    client.write(write("a", b"1", Some(0))).await.unwrap();
    harness.end().await;
}

#[tokio::test]
async fn documents_are_listed_by_kind_and_the_beginning_of_their_names() {
    let harness = Harness::new().await;
    let client = Client::new(harness.routes());
    let mut client = client.max_decoding_message_size(limits::MESSAGE_BYTES);
    let large = vec![b'x'; limits::NAMED_DOCUMENT_BYTES];
    for name in ["b/2", "a", "b/1", "b", "c"] {
        client.write(write(name, &large, None)).await.unwrap();
    }
    let other = WriteRequest { kind: "model-2".into(), ..write("a", b"", None) };
    client.write(other).await.unwrap();
    assert_eq!(names(&mut client, "model", "").await, ["a", "b", "b/1", "b/2", "c"]);
    assert_eq!(names(&mut client, "model", "b/").await, ["b/1", "b/2"]);
    assert_eq!(names(&mut client, "model-2", "").await, ["a"]);
    assert!(names(&mut client, "none", "").await.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn invalid_documents_are_refused_with_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    for kind in ["", "a/b", "A", "ä", &"k".repeat(65)] {
        let request = WriteRequest { kind: kind.into(), ..write("a", b"", None) };
        wrong_field(client.write(request).await, "kind");
        let request = ListRequest { kind: kind.into(), ..Default::default() };
        wrong_field(client.list(request).await, "kind");
    }
    for name in ["", "a\nb", &"n".repeat(limits::NAME_BYTES)] {
        wrong_field(client.write(write(name, b"", None)).await, "name");
        wrong_field(client.get(get(name)).await, "name");
        wrong_field(client.delete(delete(name, None)).await, "name");
        wrong_field(client.rename(rename(name, "b", None)).await, "name");
        wrong_field(client.rename(rename("a", name, None)).await, "new_name");
    }
    let large = vec![0; limits::NAMED_DOCUMENT_BYTES + 1];
    wrong_field(client.write(write("a", &large, None)).await, "content");
    assert!(names(&mut client, "model", "").await.is_empty());
    harness.end().await;
}

/// A request of a caller with these rights, as an edge with access control passes it on.
fn by<T>(rights: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("matyan-caller", "ana"), ("matyan-rights", rights)] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// The same request, as the translator of another tracker's protocol sends it.
fn translated<T>(mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert("matyan-translated", "1".parse().unwrap());
    request
}

#[tokio::test]
async fn rule_96_a_caller_that_may_only_send_data_replaces_no_document() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let first = client.write(by("INGEST", write("a", b"1", None))).await.unwrap().into_inner().updated_us;
    client.write(by("INGEST", write("b", b"1", Some(0)))).await.unwrap();
    for replaced in [write("a", b"2", None), write("a", b"2", Some(first))] {
        for rights in ["INGEST", "READ", ""] {
            let (code, message, _) = failure(client.write(by(rights, replaced.clone())).await);
            assert_eq!(code, Code::PermissionDenied, "{rights}: {message}");
        }
    }
    assert_eq!(failure(client.write(by("INGEST", write("a", b"2", Some(0)))).await).0, Code::Aborted);
    client.write(by("READ,INGEST", write("a", b"2", Some(first)))).await.unwrap();
    let deleting = WriteRequest { deletes: true, ..write("a", b"3", None) };
    let refused = client.write(by("READ,INGEST", deleting.clone())).await;
    assert_eq!(failure(refused).0, Code::PermissionDenied);
    let document = client.get(get("a")).await.unwrap().into_inner().document.unwrap();
    assert_eq!(document.content.as_ref(), b"2");
    client.write(by("READ,INGEST,EDIT", deleting)).await.unwrap();
    harness.end().await;
}

/// A permanent refusal would end the training of a writer.
#[tokio::test]
async fn rule_56_a_caller_whose_rights_are_unknown_replaces_a_document_later() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let rights = "INGEST,AWAY";
    client.write(by(rights, write("a", b"1", Some(0)))).await.unwrap();
    let deleting = WriteRequest { deletes: true, ..write("a", b"2", None) };
    for replaced in [write("a", b"2", None), deleting] {
        let (code, message, _) = failure(client.write(by(rights, replaced)).await);
        assert_eq!(code, Code::Unavailable, "{message}");
    }
    let document = client.get(get("a")).await.unwrap().into_inner().document.unwrap();
    assert_eq!(document.content.as_ref(), b"1");
    client.write(by("READ,INGEST", write("a", b"2", None))).await.unwrap();
    harness.end().await;
}

#[tokio::test]
async fn rule_80_a_change_that_takes_something_away_has_an_entry_and_no_other_change() {
    let harness = Harness::new().await;
    let mut client = DocumentServiceClient::new(harness.audited());
    let rights = "READ,INGEST,EDIT";
    let registry = WriteRequest { kind: "mlflow-registered-model".into(), ..write("m", b"1", None) };
    // Training writes and replaces documents, also documents of registries, as often as it likes.
    for request in [registry.clone(), registry.clone(), write("a", b"1", None), write("a", b"2", None)] {
        client.write(translated(by("READ,INGEST", request))).await.unwrap();
    }
    for request in [registry, write("a", b"2", None)] {
        let deleting = WriteRequest { deletes: true, ..request };
        client.write(translated(by("READ,INGEST", deleting.clone()))).await.unwrap_err();
        client.write(translated(by(rights, deleting))).await.unwrap();
    }
    let mut audit = AuditServiceClient::new(harness.routes());
    let listed = audit.list_entries(by(rights, ListEntriesRequest::default())).await.unwrap().into_inner();
    let mut shown: Vec<_> =
        listed.entries.iter().map(|it| (it.resource.as_str(), it.outcome.as_str())).collect();
    shown.reverse();
    assert_eq!(shown, [("mlflow-registered-model m", "OK"), ("model a", "OK")]);
    assert!(listed.entries.iter().all(|it| it.rpc == "documents.v1.DocumentService/Write"));
    harness.end().await;
}

/// Only a translator knows what a registry of models must not lose.
#[tokio::test]
async fn rule_80_without_a_translator_only_editors_replace_its_documents() {
    let harness = Harness::new().await;
    let mut client = DocumentServiceClient::new(harness.audited());
    let kinds = ["mlflow-registered-model", "wandb-collection"];
    for kind in kinds {
        let request = |content: &[u8]| WriteRequest { kind: kind.into(), ..write("m", content, None) };
        client.write(by("READ,INGEST", request(b"{1}"))).await.unwrap();
        client.write(translated(by("READ,INGEST", request(b"{2}")))).await.unwrap();
        let refused = client.write(by("READ,INGEST", request(b"{}"))).await;
        assert_eq!(failure(refused).0, Code::PermissionDenied, "{kind}");
        client.write(by("READ,INGEST,EDIT", request(b"{}"))).await.unwrap();
    }
    let mut audit = AuditServiceClient::new(harness.routes());
    let listed = audit.list_entries(by("MANAGE", ListEntriesRequest::default())).await.unwrap().into_inner();
    let mut listed: Vec<_> = listed.entries.into_iter().map(|it| (it.resource, it.outcome)).collect();
    listed.reverse();
    assert_eq!(listed, kinds.map(|kind| (format!("{kind} m"), "OK".to_owned())));
    harness.end().await;
}

#[tokio::test]
async fn rule_132_documents_count_for_the_quota_of_bytes() {
    let bytes = Quota { limit: 20, ..Quota::default() };
    let harness = Harness::with_quotas(ProjectQuotas { bytes, ..ProjectQuotas::default() }).await;
    let mut client = Client::new(harness.routes());
    let used = async || {
        let mut admin = AdminServiceClient::new(harness.routes());
        let usage = admin.usage(UsageRequest { largest_runs: 0 }).await.unwrap().into_inner();
        usage.total.unwrap().bytes
    };
    // A document counts with its id, here `model/a`.
    client.write(write("a", &[b'x'; 13], None)).await.unwrap();
    assert_eq!(used().await, 20);
    for refused in [write("b", b"", None), write("a", &[b'x'; 14], None)] {
        let (code, _, metadata) = failure(client.write(refused).await);
        assert_eq!(code, Code::Unavailable);
        assert!(metadata.contains(&("quota".to_owned(), "bytes".to_owned())), "{metadata:?}");
    }
    client.write(write("a", &[b'y'; 13], None)).await.unwrap();
    assert_eq!(used().await, 20, "a document that does not grow is replaced");
    client.write(write("a", b"123", None)).await.unwrap();
    assert_eq!(used().await, 10);
    client.write(write("b", b"", None)).await.unwrap();
    client.rename(rename("b", "bcd", None)).await.unwrap();
    assert_eq!(used().await, 19);
    client.delete(delete("a", None)).await.unwrap();
    assert_eq!(used().await, 9);
    harness.end().await;
}
