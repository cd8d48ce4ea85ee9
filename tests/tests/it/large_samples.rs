//! Samples too large for a message, through REST: a series is still one item of a list, and one
//! trace of a search, with all of its points.

use matyan_proto::ingest::v1::{IngestionBatch, Points};
use matyan_tests::{
    Reader, Server,
    binary::BinaryWriter,
    codec::{self, Value},
    eventually,
};
use serde_json::json;

/// More points than a message has, in folded chunks and after them.
const POINTS: usize = 70_500;

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn points(series: u32, range: std::ops::Range<usize>) -> Points {
    let steps: Vec<i64> = range.clone().map(|step| step as i64).collect();
    Points {
        series: vec![series; steps.len()],
        values: range.map(|step| step as f64 / 2.0).collect(),
        steps,
        ..Points::default()
    }
}

async fn write(server: &Server) {
    let mut writer = BinaryWriter::new("long");
    writer.connect(&server.ingest).await.expect("the server accepts");
    let starts: Vec<usize> = (0..POINTS).step_by(10_000).collect();
    for start in starts {
        let mut batch = IngestionBatch::default();
        let series = writer.series(&mut batch, "loss");
        batch.points = vec![points(series, start..POINTS.min(start + 10_000))];
        writer.send(&batch).await.expect("the connection is open");
    }
    writer.wait_for_acks(0).await.expect("everything is acknowledged");
    let reader = Reader::connect(&server.query).await;
    eventually("all points are applied", async || match reader.count("long").await {
        Ok(count) if count == POINTS as u64 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// The numbers of the column at a path.
fn column(entries: &[codec::Entry], path: &str) -> Vec<f64> {
    let path = format!("long/traces/0/{path}/blob");
    match entries.iter().find(|entry| entry.path_text() == path).map(|entry| &entry.value) {
        Some(Value::Bytes(bytes)) => {
            bytes.as_chunks::<8>().0.iter().map(|it| f64::from_le_bytes(*it)).collect()
        }
        other => panic!("{path}: {other:?}"),
    }
}

#[tokio::test]
async fn a_large_sample_is_complete_in_rest_responses() {
    let server = Server::up().await;
    write(&server).await;
    let base = format!("{}/api/v1/rest/runs", server.query);
    let client = reqwest::Client::new();
    for density in [70_000, 1_000_000] {
        let expected = POINTS.min(density);
        let request = client
            .post(format!("{base}/long/metric/get-batch/?record_density={density}"))
            .json(&json!([{"name": "loss", "context": {}}]));
        let text = request.send().await.expect("the server answers").text().await.expect("it is complete");
        let items: serde_json::Value = serde_json::from_str(&text).expect("the body is JSON");
        let items = items.as_array().expect("the body is a list");
        assert_eq!((items.len(), &items[0]["name"]), (1, &json!("loss")), "density {density}");
        let numbers = |key: &str| -> Vec<f64> {
            let numbers = items[0][key].as_array().expect("columns are lists");
            numbers.iter().map(|number| number.as_f64().expect("columns are numbers")).collect()
        };
        let steps = numbers("iters");
        let values = numbers("values");
        check(&steps, &values, expected);

        let query = format!("{base}/search/metric/?p={density}&report_progress=false&x_axis=loss");
        let body = client.get(query).send().await.expect("the server answers").bytes().await;
        let entries = codec::entries(&body.expect("the response is complete"));
        let names = entries.iter().filter(|entry| entry.path_text().ends_with("/name"));
        let traces: Vec<_> = names.filter(|entry| entry.path_text().contains("/traces/")).collect();
        assert_eq!(traces.len(), 1, "{traces:?}");
        check(&column(&entries, "iters"), &column(&entries, "values"), expected);
        check(&column(&entries, "x_axis_iters"), &column(&entries, "x_axis_values"), expected);
        assert_eq!(column(&entries, "epochs").len(), expected);
        assert_eq!(column(&entries, "timestamps").len(), expected);
    }
}

fn check(steps: &[f64], values: &[f64], count: usize) {
    assert_eq!((steps.len(), values.len()), (count, count));
    assert_eq!((steps.first(), steps.last()), (Some(&0.0), Some(&((POINTS - 1) as f64))));
    assert!(steps.is_sorted_by(|left, right| left < right));
    assert!(steps.iter().zip(values).all(|(step, value)| *value == step / 2.0));
}
