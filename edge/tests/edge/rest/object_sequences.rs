//! Objects: found by a query, or read by sequence and step; and their payloads.

use super::*;

fn text(index: u32, data: &str) -> objects::v1::Object {
    let kind = objects::v1::object::Kind::Text(objects::v1::Text { data: data.into() });
    objects::v1::Object { index, kind: Some(kind) }
}

fn range(start: i64, stop: i64) -> Option<StepRange> {
    Some(StepRange { start: Some(start), stop: Some(stop) })
}

#[tokio::test]
async fn object_search_streams_items_and_ranges() {
    let rest = Rest::new();
    let step = objects::v1::Step {
        step: 3,
        epoch: Some(1),
        objects: vec![text(2, "c"), text(4, "e")],
        object_count: 5,
        ..Default::default()
    };
    let sequence =
        objects::v1::Sequence { name: "txt".into(), steps: vec![step.clone()], ..Default::default() };
    let mut plain = run();
    plain.params = vec![0xa0].into();
    let message = search::v1::ObjectsResponse {
        runs: vec![search::v1::RunObjects {
            run: Some(plain.clone()),
            sequences: vec![sequence],
            record_range_total: range(0, 9),
            index_total: 5,
            more: false,
        }],
        done: true,
        ..Default::default()
    };
    rest.backend.answers("search.v1.SearchService/Objects", [message]);
    let answer = rest.get("/runs/search/texts/?record_range=2:&index_range=1:&report_progress=0").await;
    let entries = answer.entries();
    let expected = r#"r/params = {}
r/traces = []
r/traces/0/name = "txt"
r/traces/0/context = {}
r/traces/0/values = []
r/traces/0/values/0 = []
r/traces/0/values/0/0/data = "c"
r/traces/0/values/0/0/index = 2
r/traces/0/values/0/1/data = "e"
r/traces/0/values/0/1/index = 4
r/traces/0/iters = []
r/traces/0/iters/0 = 3
r/traces/0/epochs = []
r/traces/0/epochs/0 = 1
r/traces/0/timestamps = []
r/traces/0/timestamps/0 = null"#;
    assert_eq!(entries[..16].join("\n"), expected);
    let ranges: Vec<&String> = entries.iter().filter(|it| it.contains("/ranges/")).collect();
    let expected = [
        "r/ranges/record_range_total = []",
        "r/ranges/record_range_total/0 = 0",
        "r/ranges/record_range_total/1 = 9",
        "r/ranges/record_range_used = []",
        "r/ranges/record_range_used/0 = 2",
        "r/ranges/record_range_used/1 = 9",
        "r/ranges/index_range_total = []",
        "r/ranges/index_range_total/0 = 0",
        "r/ranges/index_range_total/1 = 5",
        "r/ranges/index_range_used = []",
        "r/ranges/index_range_used/0 = 1",
        "r/ranges/index_range_used/1 = 5",
    ];
    assert_eq!(ranges, expected);
    let request: search::v1::ObjectsRequest = rest.backend.last_request("search.v1.SearchService/Objects");
    assert_eq!(request.r#type, SeriesType::Texts as i32);
    let selection = request.selection.unwrap();
    assert_eq!((selection.record_density, selection.index_density), (50, 5));
    assert_eq!(selection.index_range, Some(IndexRange { start: Some(1), stop: None }));
    in_two_messages(&rest, step, plain, &entries).await;
}

/// The same sequence split over two messages gives the same tree, except for its second step.
async fn in_two_messages(rest: &Rest, step: objects::v1::Step, plain: runs::v1::Run, entries: &[String]) {
    let piece = |steps: Vec<objects::v1::Step>, more, run, of_run| search::v1::ObjectsResponse {
        runs: vec![search::v1::RunObjects {
            run: Some(run),
            sequences: vec![objects::v1::Sequence { name: "txt".into(), steps, more, ..Default::default() }],
            record_range_total: range(0, 9),
            index_total: 5,
            more: of_run,
        }],
        done: !of_run,
        ..Default::default()
    };
    let last = objects::v1::Step { step: i64::MAX, objects: vec![text(0, "z")], ..Default::default() };
    let messages =
        [piece(vec![step], true, plain, true), piece(vec![last], false, runs::v1::Run::default(), false)];
    rest.backend.answers("search.v1.SearchService/Objects", messages);
    let pieces =
        rest.get("/runs/search/texts/?record_range=2:&index_range=1:&report_progress=0").await.entries();
    let added: Vec<&String> = pieces.iter().filter(|it| !entries.contains(it)).collect();
    let expected = [
        "r/traces/0/values/1 = []",
        "r/traces/0/values/1/0/data = \"z\"",
        "r/traces/0/values/1/0/index = 0",
        "r/traces/0/iters/1 = 9223372036854775807",
        "r/traces/0/epochs/1 = null",
        "r/traces/0/timestamps/1 = null",
    ];
    assert_eq!(added, expected);
    assert_eq!(pieces.len(), entries.len() + expected.len());
}

/// The UI of Aim reads the data of each figure or distribution without a check.
#[tokio::test]
async fn steps_of_lost_objects_are_left_out() {
    let rest = Rest::new();
    let distribution = |low| objects::v1::Distribution { weights: vec![1.0], low, high: 9.0 };
    let kind = |low| Some(objects::v1::object::Kind::Distribution(distribution(low)));
    let object = |low| objects::v1::Object { index: 0, kind: kind(low) };
    let step = |step, objects| objects::v1::Step { step, objects, ..Default::default() };
    let pieces = [
        vec![step(0, vec![object(0.0)]), step(1, Vec::new())],
        vec![step(2, Vec::new()), step(3, vec![object(3.0)]), step(4, Vec::new())],
    ];
    let sequence = |steps, more| objects::v1::Sequence {
        name: "d".into(),
        steps,
        more,
        record_range_total: range(0, 5),
        ..Default::default()
    };
    let found = |steps, more| search::v1::ObjectsResponse {
        runs: vec![search::v1::RunObjects {
            run: Some(run()),
            sequences: vec![sequence(steps, more)],
            record_range_total: range(0, 5),
            index_total: 0,
            more,
        }],
        done: !more,
        ..Default::default()
    };
    let is_no_value = |entry: &str| entry.contains("values/") && entry.ends_with("= null");
    let [first, second] = pieces.clone();
    rest.backend.answers("search.v1.SearchService/Objects", [found(first, true), found(second, false)]);
    let answer = rest.get("/runs/search/distributions/?report_progress=0").await;
    let batch = |steps, last| objects::v1::BatchResponse { sequence: Some(sequence(steps, false)), last };
    let [first, second] = pieces;
    rest.backend.answers("objects.v1.ObjectService/Batch", [batch(first, false), batch(second, true)]);
    let body = json!([{"name": "d", "context": {}}]);
    let of_run = rest.send("POST", "/runs/r/distributions/get-batch/", body).await;
    for (entries, path) in [(answer.entries(), "r/traces/0/"), (of_run.entries(), "")] {
        let written = |suffix: &str| entries.contains(&format!("{path}{suffix}"));
        assert!(written("iters/0 = 0") && written("iters/1 = 3"), "{entries:?}");
        assert!(written("values/1/range/0 = 3") || written("values/1/range/0 = 3.0"), "{entries:?}");
        let more = format!("{path}values/2");
        assert!(!entries.iter().any(|entry| entry.starts_with(&more) || is_no_value(entry)), "{entries:?}");
        assert!(written("record_range_used/1 = 4") || path == "r/traces/0/", "{entries:?}");
    }
}

#[tokio::test]
async fn object_batches_may_be_split_over_messages() {
    let rest = Rest::new();
    let step = |step, data: &str| objects::v1::Step {
        step,
        objects: vec![text(0, data)],
        object_count: 1,
        ..Default::default()
    };
    let piece = |steps: Vec<objects::v1::Step>, last| objects::v1::BatchResponse {
        sequence: Some(objects::v1::Sequence {
            name: "txt".into(),
            steps,
            record_range_total: range(0, 3),
            index_total: 1,
            ..Default::default()
        }),
        last,
    };
    let pieces = [piece(vec![step(0, "a")], false), piece(vec![step(2, "b")], true)];
    rest.backend.answers("objects.v1.ObjectService/Batch", pieces);
    let body = json!([{"name": "txt", "context": {}}]);
    let answer = rest.send("POST", "/runs/r/texts/get-batch/", body.clone()).await;
    let expected = r#"name = "txt"
context = {}
values = []
values/0 = []
values/0/0/data = "a"
values/0/0/index = 0
values/1 = []
values/1/0/data = "b"
values/1/0/index = 0
iters = []
iters/0 = 0
iters/1 = 2
record_range_used = []
record_range_used/0 = 0
record_range_used/1 = 3
record_range_total = []
record_range_total/0 = 0
record_range_total/1 = 3
index_range_used = []
index_range_used/0 = 0
index_range_used/1 = 1
index_range_total = []
index_range_total/0 = 0
index_range_total/1 = 1"#;
    assert_eq!(answer.entries().join("\n"), expected);
    // The last possible step has no step after it, so the end of the range saturates.
    rest.backend.answers("objects.v1.ObjectService/Batch", [piece(vec![step(i64::MAX, "z")], true)]);
    let answer = rest.send("POST", "/runs/r/texts/get-batch/", body.clone()).await;
    assert!(answer.entries().contains(&format!("record_range_used/1 = {}", i64::MAX)));
    let sequence = objects::v1::Sequence { steps: vec![step(i64::MAX, "z")], ..Default::default() };
    let last = objects::v1::StepResponse { sequence: Some(sequence) };
    rest.backend.answers("objects.v1.ObjectService/Step", [last]);
    let answer = rest.send("POST", "/runs/r/texts/get-step/", body.clone()).await;
    assert!(answer.entries().contains(&format!("record_range_used/1 = {}", i64::MAX)));
    rest.backend.fails::<objects::v1::BatchResponse>("objects.v1.ObjectService/Batch", [], missing());
    assert_eq!(rest.send("POST", "/runs/x/texts/get-batch/", body).await.status, 404);
}

#[tokio::test]
async fn one_step_of_every_type_has_its_items() {
    let rest = Rest::new();
    let check = async |name: &str, kind: objects::v1::object::Kind, expected: &[&str]| {
        let object = objects::v1::Object { index: 3, kind: Some(kind) };
        let step =
            objects::v1::Step { step: 5, objects: vec![object], object_count: 4, ..Default::default() };
        let sequence = objects::v1::Sequence {
            name: "s".into(),
            steps: vec![step],
            record_range_total: range(0, 9),
            ..Default::default()
        };
        rest.backend.answers(
            "objects.v1.ObjectService/Step",
            [objects::v1::StepResponse { sequence: Some(sequence) }],
        );
        let path = format!("/runs/r/{name}/get-step/?record_step=5");
        let answer = rest.send("POST", &path, json!([{"name": "s", "context": {}}])).await;
        let entries = answer.entries();
        let items: Vec<&str> = entries.iter().filter_map(|it| it.strip_prefix("values/0/")).collect();
        assert_eq!(items, expected, "{name}");
        assert!(entries.contains(&"record_range_used/1 = 6".to_owned()), "{entries:?}");
        let has_index = entries.contains(&"index_range_total/1 = 4".to_owned());
        assert_eq!(has_index, !["distributions", "figures"].contains(&name), "{entries:?}");
    };
    use objects::v1::object::Kind;
    let image = objects::v1::Image {
        caption: "c".into(),
        width: Some(2),
        height: None,
        format: "png".into(),
        blob_uri: "u".into(),
    };
    let expected = [
        "caption = \"c\"",
        "width = 2",
        "height = null",
        "format = \"png\"",
        "blob_uri = \"u\"",
        "index = 3",
    ];
    check("images", Kind::Image(image), &expected).await;
    let audio = objects::v1::Audio {
        caption: String::new(),
        rate: Some(1),
        format: "wav".into(),
        blob_uri: "u".into(),
    };
    check(
        "audios",
        Kind::Audio(audio),
        &["caption = \"\"", "format = \"wav\"", "blob_uri = \"u\"", "index = 3"],
    )
    .await;
    let distribution = objects::v1::Distribution { weights: vec![1.0, 2.0], low: 0.0, high: 1.0 };
    let expected = [
        "data/shape = 2",
        "data/blob = [1.0, 2.0]",
        "bin_count = 2",
        "range = []",
        "range/0 = 0.0",
        "range/1 = 1.0",
    ];
    check("distributions", Kind::Distribution(distribution), &expected).await;
    let figure = objects::v1::Figure { data: vec![0xa1, 0x64, b'd', b'a', b't', b'a', 0x81, 0x01].into() };
    check("figures", Kind::Figure(figure), &[r#"data = "{\"data\": [1]}""#, "index = 3"]).await;
    let html = objects::v1::Html { caption: "c".into(), blob_uri: "u".into() };
    check("htmls", Kind::Html(html), &["caption = \"c\"", "blob_uri = \"u\"", "index = 3"]).await;
    let cloud = objects::v1::PointCloud {
        caption: String::new(),
        point_count: Some(9),
        format: "ply".into(),
        blob_uri: "u".into(),
    };
    let expected = ["caption = \"\"", "point_count = 9", "format = \"ply\"", "blob_uri = \"u\"", "index = 3"];
    check("point_clouds", Kind::PointCloud(cloud), &expected).await;
}

#[tokio::test]
async fn a_step_below_minus_one_matches_nothing() {
    let rest = Rest::new();
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse::default()]);
    let answer = rest.send("POST", "/runs/r/texts/get-step/?record_step=-2", json!([])).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn payloads_are_returned_by_uri() {
    let rest = Rest::new();
    let piece = |index, chunk: &'static [u8], last, size| artifacts::v1::BlobsResponse {
        index,
        chunk: chunk.into(),
        last,
        size,
    };
    let pieces = [piece(0, b"ab", false, 3), piece(0, b"c", true, 0), piece(2, b"", true, 0)];
    rest.backend.answers("artifacts.v1.ArtifactService/Blobs", pieces);
    let answer = rest.send("POST", "/runs/images/get-batch/", json!(["u", "bad", "v"])).await;
    assert_eq!(answer.entries(), ["u = [97, 98, 99]", "v = []"]);
    let request: artifacts::v1::BlobsRequest =
        rest.backend.last_request("artifacts.v1.ArtifactService/Blobs");
    assert_eq!(request.uris, ["u", "bad", "v"]);
    assert_eq!(rest.send("POST", "/runs/texts/get-batch/", json!([])).await.status, 404);
    // A payload of another length than announced would make the rest unreadable.
    let torn = vec![piece(0, b"ab", true, 3), piece(1, b"x", true, 1)];
    // The last piece would complete the payload without the one that is too long.
    let too_long = vec![piece(0, b"ab", false, 3), piece(0, b"cd", true, 0), piece(0, b"c", true, 0)];
    for pieces in [torn, too_long] {
        rest.backend.answers("artifacts.v1.ArtifactService/Blobs", pieces);
        let request = Request::post("/api/v1/rest/runs/images/get-batch/");
        let request = request.body(Body::from(json!(["u", "v"]).to_string())).unwrap();
        let body = rest.edge.answer(request).await.into_body();
        assert!(body.collect().await.is_err(), "the body must be aborted");
    }
}
