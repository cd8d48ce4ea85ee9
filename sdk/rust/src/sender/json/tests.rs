//! The session against a scripted server that answers as a Matyan 0.3 frontier or as ours does.

use std::collections::VecDeque;

use bytes::Bytes;
use matyan_proto::ingest::v1::{
    AddTag, BlobRef, CreateRun, Event, FinishRun, LogObject, LogParams, LogRecord, LogTerminalLine, Points,
    SetRunProperty, event::Kind,
};
use matyan_value::cbor;
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;

const TIME: i64 = 1_704_164_645_123_456;
const OK: &str = r#"{"status":"ok","error":null}"#;

fn event(kind: Kind) -> Event {
    Event { client_time_us: Some(TIME), kind: Some(kind) }
}

fn encoded(json: &str) -> Bytes {
    cbor::encode(&matyan_value::json::parse(json).unwrap()).into()
}

fn dictionary() -> Vec<SeriesDef> {
    vec![
        SeriesDef { name: "loss".into(), context: r#"{"subset": "train"}"#.into(), dtype: "float32".into() },
        SeriesDef { name: "é\"".into(), ..SeriesDef::default() },
    ]
}

fn points(count: usize) -> Points {
    Points {
        series: vec![0; count],
        values: (0..count).map(|at| at as f64).collect(),
        steps: (0..count as i64).collect(),
        epochs: Vec::new(),
        times_us: vec![TIME],
        ..Points::default()
    }
}

fn frames(batch: &IngestionBatch) -> (Vec<JsonFrame>, Vec<Rejection>) {
    let mut writer = FrameWriter::default();
    writer.write_batch(batch, &dictionary());
    writer.finish()
}

fn of_points(points: Points) -> IngestionBatch {
    IngestionBatch { points: vec![points], ..IngestionBatch::default() }
}

#[test]
fn events_have_the_forms_of_the_published_client() {
    let check = |kind: Kind, expected: Json| {
        let batch = IngestionBatch { events: vec![event(kind)], ..IngestionBatch::default() };
        let (frames, rejections) = frames(&batch);
        assert_eq!(rejections, []);
        assert_eq!(serde_json::from_str::<Json>(&frames[0].text()).unwrap(), expected);
    };
    let time = "2024-01-02T03:04:05.123456+00:00";
    check(
        Kind::CreateRun(CreateRun { force_resume: true, ..CreateRun::default() }),
        json!({"type": "create_run", "force_resume": true, "client_datetime": time}),
    );
    let parent = json!({
        "type": "create_run", "force_resume": false, "parent_run_id": "p", "parent_step": 3, "client_datetime": time
    });
    let parent_run_id = "p".to_owned();
    check(Kind::CreateRun(CreateRun { parent_run_id, parent_step: Some(3), ..CreateRun::default() }), parent);
    check(Kind::FinishRun(FinishRun::default()), json!({"type": "finish_run", "client_datetime": time}));
    check(
        Kind::SetRunProperty(SetRunProperty {
            experiment: Some("e".into()),
            archived: Some(false),
            ..Default::default()
        }),
        json!({"type": "set_run_property", "experiment": "e", "archived": false}),
    );
    check(Kind::AddTag(AddTag { name: "t".into() }), json!({"type": "add_tag", "tag_name": "t"}));
    check(
        Kind::LogParams(LogParams { value: encoded(r#"{"hparams": {"lr": 0.1, "n": [1, null]}}"#) }),
        json!({"type": "log_hparams", "value": {"hparams": {"lr": 0.1, "n": [1, null]}}}),
    );
    check(
        Kind::LogObject(LogObject {
            name: "t".into(),
            dtype: "text".into(),
            step: Some(2),
            value: encoded(r#"{"type": "text", "data": "x"}"#),
            ..LogObject::default()
        }),
        json!({"type": "log_custom_object", "name": "t", "value": {"type": "text", "data": "x"}, "step": 2,
            "epoch": null, "context": null, "dtype": "text", "client_datetime": time}),
    );
    check(
        Kind::LogTerminalLine(LogTerminalLine { line: "l".into(), step: 3 }),
        json!({"type": "log_terminal_line", "line": "l", "step": 3}),
    );
    check(
        Kind::LogRecord(LogRecord {
            message: "m".into(),
            level: 20,
            timestamp: 1.5,
            logger_info: encoded(r#"["f.py", 3]"#),
            extra_args: Bytes::new(),
        }),
        json!({"type": "log_record", "message": "m", "level": 20, "timestamp": 1.5, "logger_info": ["f.py", 3]}),
    );
    check(
        Kind::BlobRef(BlobRef {
            key: "r/p".into(),
            path: "p".into(),
            content_type: "c".into(),
            ..Default::default()
        }),
        json!({"type": "blob_ref", "s3_key": "r/p", "artifact_path": "p", "content_type": "c"}),
    );
}

#[test]
fn a_point_has_every_member_that_matyan_03_requires() {
    let mut two = points(2);
    two.series = vec![0, 1];
    two.values = vec![1.0, f64::NEG_INFINITY];
    two.steps = vec![7, i64::MIN];
    two.epochs = vec![1];
    let (frames, rejections) = frames(&of_points(two));
    assert_eq!(rejections, []);
    assert_eq!(
        frames[0].item_text(0),
        r#"{"type":"log_metric","name":"loss","value":1.0,"step":7,"epoch":1,"context":{"subset": "train"},"dtype":"float32","client_datetime":"2024-01-02T03:04:05.123456+00:00"}"#
    );
    assert_eq!(
        frames[0].item_text(1),
        r#"{"type":"log_metric","name":"\u00e9\"","value":-Infinity,"step":null,"epoch":1,"context":null,"dtype":"float","client_datetime":"2024-01-02T03:04:05.123456+00:00"}"#
    );
    assert_eq!(frames[0].text(), format!("[{},{}]", frames[0].item_text(0), frames[0].item_text(1)));
}

#[test]
fn the_end_of_the_run_comes_last() {
    let end = event(Kind::FinishRun(FinishRun::default()));
    let tag = event(Kind::AddTag(AddTag { name: "t".into() }));
    let batch = IngestionBatch { events: vec![tag, end], ..of_points(points(1)) };
    let (frames, _) = frames(&batch);
    let messages: Vec<Json> = serde_json::from_str(&frames[0].text()).unwrap();
    let types: Vec<_> = messages.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["add_tag", "log_metric", "finish_run"]);
    assert_eq!([0, 1, 2].map(|index| frames[0].item_number(index)), [0, 2, 1]);
}

#[test]
fn several_root_params_become_several_messages() {
    let params = Kind::LogParams(LogParams { value: encoded(r#"{"a": 1, "b": {"c": NaN}}"#) });
    let batch = IngestionBatch { events: vec![event(params)], ..IngestionBatch::default() };
    let (frames, _) = frames(&batch);
    assert_eq!(frames[0].item_text(0), r#"{"type":"log_hparams","value":{"a":1}}"#);
    assert_eq!(frames[0].item_text(1), r#"{"type":"log_hparams","value":{"b":{"c":NaN}}}"#);
    assert_eq!((frames[0].item_number(0), frames[0].item_number(1)), (0, 0));
}

#[test]
fn frames_are_limited_in_items_and_bytes() {
    let (many, _) = frames(&of_points(points(250)));
    assert_eq!(many.iter().map(JsonFrame::len).collect::<Vec<_>>(), [100, 100, 50]);
    let line = |length| event(Kind::LogTerminalLine(LogTerminalLine { line: "x".repeat(length), step: 0 }));
    let batch = IngestionBatch {
        events: vec![line(400 << 10), line(400 << 10), line(17 << 20)],
        ..Default::default()
    };
    let (large, rejections) = frames(&batch);
    assert_eq!(large.iter().map(JsonFrame::len).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(rejections[0].item, 2);
}

#[test]
fn items_that_json_cannot_say_are_rejected_alone() {
    let mut batch = of_points(points(3));
    batch.points[0].series[1] = 9;
    batch.events.push(event(Kind::LogParams(LogParams { value: Bytes::from_static(b"\xff") })));
    batch.events.push(Event { client_time_us: None, kind: Some(Kind::CreateRun(CreateRun::default())) });
    let (frames, rejections) = frames(&batch);
    assert_eq!(frames[0].len(), 2);
    let named: Vec<_> = rejections.iter().map(|it| (it.item, it.field.as_str())).collect();
    assert_eq!(named, [(0, "value"), (1, "client_time_us"), (3, "series")]);
}

/// Reaction of the scripted server to one frame.
enum Reaction {
    Answer(String),
    Close,
}

/// Accepts one connection and reacts to its frames; returns the frames.
async fn serve(listener: &TcpListener, reactions: Vec<Reaction>) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let mut reactions = VecDeque::from(reactions);
    let mut received = Vec::new();
    while let Some(reaction) = reactions.pop_front() {
        let Some(Ok(Message::Text(text))) = socket.next().await else { break };
        received.push(text.to_string());
        match reaction {
            Reaction::Answer(answer) => socket.send(Message::text(answer)).await.unwrap(),
            Reaction::Close => return received,
        }
    }
    received
}

type ClientSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn deliver(
    listener: &TcpListener,
    reactions: Vec<Reaction>,
    batch: &IngestionBatch,
) -> (Vec<String>, Result<Vec<Rejection>, SessionError>) {
    let url = format!("ws://{}/api/v1/ws/runs/r", listener.local_addr().unwrap());
    let client = async {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut session: JsonSession<ClientSocket> = JsonSession::new(socket);
        let outcome = session.deliver(batch, &dictionary()).await;
        session.close().await;
        outcome
    };
    tokio::join!(serve(listener, reactions), client)
}

fn answers<const N: usize>(texts: [&str; N]) -> Vec<Reaction> {
    texts.into_iter().map(|text| Reaction::Answer(text.to_owned())).collect()
}

fn refusal(text: &str) -> String {
    json!({"status": "error", "error": text}).to_string()
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn frames_are_sent_one_by_one_and_acknowledged() {
    let (received, outcome) = deliver(&listen().await, answers([OK, OK, OK]), &of_points(points(250))).await;
    assert_eq!(outcome.unwrap(), []);
    let steps: Vec<i64> = received
        .iter()
        .flat_map(|frame| serde_json::from_str::<Vec<Json>>(frame).unwrap())
        .map(|message| message["step"].as_i64().unwrap())
        .collect();
    assert_eq!(steps, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_connection_leads_to_the_same_bytes() {
    let listener = listen().await;
    let batch = of_points(points(150));
    let reactions = vec![Reaction::Answer(OK.into()), Reaction::Close];
    let (first, outcome) = deliver(&listener, reactions, &batch).await;
    assert!(matches!(outcome, Err(SessionError::Disconnected(_))), "{outcome:?}");
    let (second, outcome) = deliver(&listener, answers([OK, OK]), &batch).await;
    assert_eq!(outcome.unwrap(), []);
    assert_eq!(first, second);
}

#[tokio::test]
async fn items_that_our_server_names_are_reported_by_their_numbers_in_the_batch() {
    let error = refusal("item 1: value: expected a number; item 4: step: reserved");
    let mut batch = of_points(points(120));
    batch.events.push(event(Kind::AddTag(AddTag { name: "t".into() })));
    // The second frame starts with item 100.
    let (_, outcome) = deliver(&listen().await, answers([OK, &error]), &batch).await;
    let found: Vec<_> = outcome.unwrap().into_iter().map(|it| (it.item, it.field, it.reason)).collect();
    let expected = [(101, "value", "expected a number"), (104, "step", "reserved")];
    assert_eq!(found, expected.map(|(item, field, reason)| (item, field.to_owned(), reason.to_owned())));
}

#[tokio::test]
async fn after_an_error_of_matyan_03_every_other_item_is_stored() {
    let error = refusal("1 validation error for LogMetric\nvalue\n  Input should be a valid number");
    // The second of three items is invalid: the frame fails, then the item alone.
    let (received, outcome) =
        deliver(&listen().await, answers([&error, OK, &error, OK]), &of_points(points(3))).await;
    let rejections = outcome.unwrap();
    assert_eq!(rejections.iter().map(|it| it.item).collect::<Vec<_>>(), [1]);
    assert!(rejections[0].reason.contains("valid number"));
    assert_eq!(
        received[1..]
            .iter()
            .map(|frame| serde_json::from_str::<Json>(frame).unwrap()["step"].as_i64())
            .collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
}

#[tokio::test]
async fn a_server_that_cannot_store_gets_the_batch_again() {
    for text in ["not stored within 40 s: away", "KafkaTimeoutError", ""] {
        let reactions = answers([&refusal(text)]);
        let (_, outcome) = deliver(&listen().await, reactions, &of_points(points(3))).await;
        assert!(matches!(outcome, Err(SessionError::Unavailable(_))), "{text}: {outcome:?}");
    }
}

#[tokio::test]
async fn rule_74_long_errors_are_kept_in_part() {
    let error = refusal(&"\u{e9}".repeat(1 << 20));
    let (_, outcome) = deliver(&listen().await, answers([&error]), &of_points(points(3))).await;
    let Err(SessionError::Unavailable(text)) = outcome else { panic!("the batch was accepted") };
    assert_eq!(text.len(), QUOTED_BYTES);
    // More items than there are, with long reasons.
    let items: Vec<_> = (0..9).map(|item| format!("item {item}: value: {}", "x".repeat(1 << 20))).collect();
    let error = refusal(&items.join("; "));
    let (_, outcome) = deliver(&listen().await, answers([&error]), &of_points(points(3))).await;
    let rejections = outcome.unwrap();
    assert_eq!(rejections.len(), 3);
    assert!(rejections.iter().all(|it| it.reason.len() == REASON_BYTES));
}

#[tokio::test]
async fn an_answer_that_is_no_ack_ends_the_session() {
    for text in ["nonsense", "[]", r#"{"detail":"Not Found"}"#] {
        let (_, outcome) = deliver(&listen().await, answers([text]), &of_points(points(1))).await;
        assert!(matches!(outcome, Err(SessionError::Unexpected(_))), "{text}: {outcome:?}");
    }
}

#[tokio::test]
async fn rule_93_an_ack_without_a_frame_is_not_taken_for_the_ack_of_the_next_frame() {
    let listener = listen().await;
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let client = async { tokio_tungstenite::connect_async(url).await.unwrap().0 };
    let (mut server, client) = tokio::join!(server, client);
    // Sent after the handshake, because the client might otherwise read the message together with it.
    server.send(Message::text(OK)).await.unwrap();
    client.get_ref().get_ref().readable().await.unwrap();
    let mut session = JsonSession::new(client);
    let outcome = session.deliver(&of_points(points(1)), &dictionary()).await;
    assert!(matches!(outcome, Err(SessionError::Unexpected(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let listener = listen().await;
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let client = async { tokio_tungstenite::connect_async(url).await.unwrap().0 };
    let (_socket, client) = tokio::join!(server, client);
    let mut session = JsonSession::new(client);
    session.ack_limit = Duration::from_millis(20);
    let outcome = session.deliver(&of_points(points(1)), &dictionary()).await;
    assert!(matches!(outcome, Err(SessionError::Silent)), "{outcome:?}");
}

#[tokio::test]
async fn an_idle_session_notices_the_end_of_its_connection() {
    let listener = listen().await;
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap().close(None).await.unwrap();
    };
    let client = async { tokio_tungstenite::connect_async(url).await.unwrap().0 };
    let ((), client) = tokio::join!(server, client);
    assert!(matches!(JsonSession::new(client).idle().await, SessionError::Disconnected(_)));
}

#[tokio::test]
async fn our_own_server_stores_what_it_gets_without_the_subprotocol() {
    let server = matyan_tests::Server::up().await;
    let (socket, _) =
        tokio_tungstenite::connect_async(matyan_tests::json::url(&server.ingest, "r")).await.unwrap();
    let mut session: JsonSession<ClientSocket> = JsonSession::new(socket);
    let mut batch = of_points(points(250));
    batch.points[0].values[7] = f64::NAN;
    batch.points[0].steps[9] = i64::MIN + 1;
    let line = LogTerminalLine { line: "l".into(), step: 0 };
    let kinds = [
        Kind::CreateRun(CreateRun::default()),
        Kind::LogParams(LogParams { value: encoded(r#"{"a": 1, "b": {"c": [NaN]}}"#) }),
        Kind::SetRunProperty(SetRunProperty { name: Some("n".into()), ..Default::default() }),
        Kind::AddTag(AddTag { name: "t".into() }),
        Kind::LogTerminalLine(line),
        Kind::AddTag(AddTag { name: "x".repeat(5000) }),
    ];
    batch.events = kinds.into_iter().map(event).collect();
    let rejections = session.deliver(&batch, &dictionary()).await.unwrap();
    session.close().await;
    // The name that is too long is the only item that is refused.
    let refused: Vec<_> = rejections.iter().map(|it| (it.item, it.count)).collect();
    assert_eq!(refused, [(5, 1)], "{rejections:?}");
    let info = matyan_tests::eventually("the run is complete", async || {
        let info = server.get("/api/v1/rest/runs/r/info/").await?;
        let last = &info["traces"]["metric"][0]["last_value"];
        let is_complete = *last == json!(249.0) && info["props"]["tags"][0].is_object();
        if is_complete { Ok(info) } else { Err(info.to_string()) }
    })
    .await;
    assert_eq!(info["params"], json!({"a": 1, "b": {"c": [null]}}));
    assert_eq!((&info["props"]["name"], &info["props"]["tags"][0]["name"]), (&json!("n"), &json!("t")));
}
