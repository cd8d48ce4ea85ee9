//! Tests of objects on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;
use matyan_value::Context;

const P: Project = Project(0);
const N: RunNumber = RunNumber(1);

#[test]
fn a_header_counts_steps_and_keeps_the_last_type() {
    let mut header = ObjectHeader::new("o", "");
    assert_eq!(header.next_step(), Some(0));
    header.add(5, "images", true);
    header.add(-2, "text", true);
    header.add(5, "text", false);
    assert_eq!(
        (header.count, header.first_step, header.last_step, header.dtype.as_str()),
        (2, -2, 5, "text")
    );
    assert_eq!(header.next_step(), Some(6));
    header.add(i64::MAX, "text", true);
    assert_eq!(header.next_step(), None);
}

#[tokio::test]
async fn objects_are_found_by_name_and_listed_by_step() {
    let store = TestStore::open().await;
    let context = Context::parse(r#"{"a":1}"#).unwrap();
    let series = SeriesNumber(3);
    let blob = BlobRef { key: "r/.matyan/x".into(), size: 9, hash: [1; 32] };
    let objects: Vec<Object> = (-2..8)
        .map(|step| Object {
            step,
            epoch: (step > 0).then_some(step),
            time_us: step * 10,
            value: if step == 2 {
                ObjectValue::Blob(blob.clone())
            } else {
                ObjectValue::Inline(vec![step as u8].into())
            },
        })
        .collect();
    let mut batch = Batch::default();
    let header = ObjectHeader::new("o", context.stored());
    object_series_create(&mut batch, P, N, series, &header, &context.digest());
    for object in &objects {
        object_put(&mut batch, P, N, series, object);
    }
    store.commit(batch).await.unwrap();

    let snapshot = store.snapshot().await.unwrap();
    let found = object_series_find(&*snapshot, P, N, "o", &context.digest()).await.unwrap();
    assert_eq!(found, Some((series, header.clone())));
    assert_eq!(object_series_find(&*snapshot, P, N, "o", &Context::default().digest()).await.unwrap(), None);
    assert_eq!(object_series_list(&*snapshot, P, N).await.unwrap(), [(series, header)]);
    assert_eq!(object_get(&*snapshot, P, N, series, 2).await.unwrap().as_ref(), Some(&objects[4]));
    assert_eq!(object_get(&*snapshot, P, N, series, 99).await.unwrap(), None);
    let mut read = Vec::new();
    let mut range = Some(objects_between(P, N, series, -1, 6));
    while let Some(own) = range {
        let scan = Scan { rows: 3, ..Scan::default() };
        let (page, rest) = objects_list(&*snapshot, P, N, series, &own, scan).await.unwrap();
        read.extend(page);
        range = rest;
    }
    assert_eq!(read, objects[1..9]);
    let all = objects_between(P, N, series, i64::MIN, i64::MAX);
    let scan = Scan { rows: 2, reverse: true, ..Scan::default() };
    let (last, _) = objects_list(&*snapshot, P, N, series, &all, scan).await.unwrap();
    assert_eq!(last, [objects[9].clone(), objects[8].clone()]);
}
