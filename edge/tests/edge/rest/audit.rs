//! The audit log.

use matyan_proto::access::v1::{
    AuditEntry, ListAllEntriesRequest, ListAllEntriesResponse, ListEntriesRequest, ListEntriesResponse,
};

use super::*;

#[tokio::test]
async fn the_audit_log_is_read_page_by_page() {
    let rest = Rest::new();
    let entry = AuditEntry {
        time_us: TIME_US,
        principal: "ana".to_owned(),
        credential: "0123456789abcdef".to_owned(),
        address: "10.0.0.7".to_owned(),
        project: None,
        rpc: "sign-in".to_owned(),
        resource: String::new(),
        outcome: "OK".to_owned(),
        request_id: "r".to_owned(),
    };
    let shown = json!({
        "time": ISO, "principal": "ana", "token": "0123456789abcdef", "address": "10.0.0.7", "project": null,
        "rpc": "sign-in", "resource": "", "outcome": "OK", "request_id": "r",
    });
    let entries = vec![entry];
    let page = ListEntriesResponse { entries: entries.clone(), next_cursor: "5/a".to_owned() };
    rest.backend.answers("access.v1.AuditService/ListEntries", [page]);
    let path = "/access/audit/?principal=ana&failed=true&since=2&page_size=10&cursor=7%2Fb";
    let expected = json!({"entries": [shown], "next_cursor": "5/a"});
    assert_eq!(rest.json("GET", path, Value::Null).await, expected);
    let asked: ListEntriesRequest = rest.backend.last_request("access.v1.AuditService/ListEntries");
    let filter = asked.filter.unwrap();
    assert_eq!((filter.principal.as_str(), filter.failed, filter.since_us), ("ana", true, Some(2_000_000)));
    assert_eq!((asked.page_size, asked.cursor.as_str()), (10, "7/b"));

    let page = ListAllEntriesResponse { entries, next_cursor: String::new() };
    rest.backend.answers("access.v1.AuditService/ListAllEntries", [page]);
    let all = rest.json("GET", "/access/audit/?everywhere=true&rpc=sign-in", Value::Null).await;
    assert_eq!(all["next_cursor"], "");
    let asked: ListAllEntriesRequest = rest.backend.last_request("access.v1.AuditService/ListAllEntries");
    assert_eq!(asked.filter.unwrap().rpc, "sign-in");
    assert_eq!(rest.get("/access/audit/?page_size=many").await.status, 422);
}
