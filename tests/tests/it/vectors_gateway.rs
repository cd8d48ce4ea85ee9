//! Recorded exchanges with the gateway of Matyan 0.3, replayed against this frontier: frames of
//! the published client, unusual frames, and HTTP calls. Where a recorded response was a
//! defect, the correct response is expected.

use futures::{SinkExt, StreamExt};
use matyan_tests::{Reader, Server, eventually, json::url, vectors};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

fn parse_vectors(prefix: &str) -> Vec<Value> {
    let parse = |(path, text): (std::path::PathBuf, String)| {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    vectors::files(prefix, ".json").into_iter().map(parse).collect()
}

/// A frame as recorded; very large and binary ones are recorded as a description.
fn frame(recorded: &str) -> Message {
    let described = |what: &str| {
        let size = recorded.strip_prefix(what)?.strip_suffix('>')?;
        size.parse::<usize>().ok()
    };
    if let Some(size) = described("<bytes of ") {
        return Message::binary(vec![0; size]);
    }
    if let Some(size) = described("<str of ") {
        return Message::text("x".repeat(size));
    }
    Message::text(recorded)
}

/// The response to one frame, in the form of the recording.
async fn answer(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return json!({"ack": serde_json::from_str::<Value>(&text).expect("an acknowledgement is JSON")});
            }
            Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => {
                return json!({"closed": u16::from(code)});
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return json!({"unexpected": format!("{other:?}")}),
        }
    }
}

/// True if a response is the one that the case expects.
fn is_expected(case: &Value, reference: &Value, answer: &Value) -> bool {
    let status = &answer["ack"]["status"];
    let named = answer["ack"]["error"].as_str().is_some_and(|error| !error.is_empty());
    if let Some(code) = reference["closed"]["code"].as_u64() {
        let sound = status == "error" && named;
        let either = case["note"].as_str().is_some_and(|note| note.contains("or answer with an error ack"));
        return if code == 1000 { sound || either && status == "ok" } else { answer["closed"] == code };
    }
    match reference["ack"]["status"].as_str() {
        Some("ok") => answer["ack"] == json!({"status": "ok", "error": null}),
        Some("error") => status == "error" && named,
        _ => false,
    }
}

/// Number of points that the valid items of a case's frames write to a series.
fn points_written(case: &Value, name: &str) -> usize {
    let items = case["frames"].as_array().expect("frames are a list").iter().flat_map(|frame| {
        match serde_json::from_str(frame.as_str().unwrap_or_default()) {
            Ok(Value::Array(items)) => items,
            Ok(item) => vec![item],
            Err(_) => Vec::new(),
        }
    });
    let written =
        |item: &Value| item["type"] == "log_metric" && item["name"] == name && item["value"].is_number();
    items.filter(|item| written(item) && item.get("step").is_some()).count()
}

#[tokio::test]
async fn vectors_gateway_edge_cases_frames() {
    let server = Server::up().await;
    let reader = Reader::connect(&server.query).await;
    let mut played = 0;
    let mut skipped = 0;
    for (file, recording) in parse_vectors("gateway_edge_cases").iter().enumerate() {
        for (number, case) in recording["ws"].as_array().expect("ws is a list").iter().enumerate() {
            if case["kafka_fails_on_finish_run"] == true {
                skipped += 1; // log failures are tested with the fault layer, in the tests of the frontier
                continue;
            }
            let run_id = format!("{}-{file}-{number}", case["run_id_in_url"].as_str().expect("text"));
            play(case, &url(&server.ingest, &run_id)).await;
            let wanted = points_written(case, "loss");
            eventually("the valid items of the case are stored", async || {
                let points = reader.points(&run_id, "loss", "").await.map_err(|status| status.to_string())?;
                if points.len() == wanted { Ok(()) } else { Err(format!("{}: {points:?}", case["name"])) }
            })
            .await;
            played += 1;
        }
    }
    println!("{played} cases played, {skipped} need a failing log");
    assert!(played > 0);
}

async fn play(case: &Value, url: &str) {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("the handshake is accepted");
    let frames = case["frames"].as_array().expect("frames are a list");
    let references = case["reference_responses"].as_array().expect("responses are a list");
    for (recorded, reference) in frames.iter().zip(references) {
        // A server that rejects a frame by its length may close before all of it was
        // sent.
        let sent = socket.send(frame(recorded.as_str().expect("a frame is text"))).await;
        let answer = answer(&mut socket).await;
        assert!(
            is_expected(case, reference, &answer),
            "{}: wanted {reference}, got {answer} ({sent:?})",
            case["name"]
        );
    }
}

#[tokio::test]
async fn vectors_gateway_edge_cases_http() {
    // The default of 0.3, which the recordings rely on.
    let server = Server::up_with(&["--cors-origins", "http://localhost:3000"]).await;
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let mut exchanges = 0;
    for recording in parse_vectors("gateway_edge_cases") {
        for case in recording["http"].as_array().expect("http is a list") {
            exchange(&client, &server, case).await;
            exchanges += 1;
        }
    }
    assert!(exchanges > 0);
}

async fn exchange(client: &reqwest::Client, server: &Server, case: &Value) {
    let method = case["method"].as_str().expect("text").parse().expect("a method");
    let mut request =
        client.request(method, format!("{}{}", server.ingest, case["path"].as_str().expect("text")));
    if let Some(body) = case["request"].get("json") {
        request = request.json(body);
    }
    if let Some(content) = case["request"]["content"].as_str() {
        request = request.body(content.to_owned());
    }
    for (name, value) in case["request"]["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().expect("a header is text"));
    }
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response.text().await.expect("the answer is text");
    let name = &case["name"];
    let recorded = u16::try_from(case["status"].as_u64().expect("a number")).expect("a status");
    let path = case["request"]["json"]["artifact_path"].as_str().unwrap_or_default();
    // Both forms of a path, with and without a trailing slash, are answered directly; a path
    // outside its run is rejected.
    let wanted = if path.contains("..") {
        422
    } else if recorded == 307 {
        200
    } else {
        recorded
    };
    assert_eq!(status, wanted, "{name}: {body}");
    let preflight = case["method"] == "OPTIONS";
    assert_eq!(headers.contains_key("x-request-id"), !preflight, "{name}");
    for header in
        ["access-control-allow-origin", "access-control-allow-credentials", "access-control-max-age", "allow"]
    {
        if let Some(recorded) = case["headers"].get(header).filter(|_| recorded != 307) {
            assert_eq!(
                headers.get(header).map(|value| value.to_str().expect("ASCII")),
                recorded.as_str(),
                "{name}"
            );
        }
    }
    if wanted == 200 && !path.is_empty() {
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let keys: Vec<_> = answer.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["upload_url", "s3_key", "headers"], "{name}");
        assert_eq!(
            answer["s3_key"],
            format!("{}/{path}", case["request"]["json"]["run_id"].as_str().expect("text"))
        );
    }
}

/// Every frame that the published client was recorded to send is acknowledged with ok, once and
/// in order.
#[tokio::test]
async fn vectors_ws_transcripts() {
    let server = Server::up().await;
    let mut frames = 0;
    for (_, text) in vectors::files("ws_transcripts", ".jsonl") {
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let mut scenario = Value::Null;
        let mut socket = None;
        for line in
            lines.iter().filter(|line| line["channel"] == "ws" && line["direction"] == "client->server")
        {
            let path = line["path"].as_str().expect("text");
            if line["scenario"] != scenario || line["method"] == "OPEN" {
                scenario = line["scenario"].clone();
                let url = format!("{}{path}", server.ingest.replacen("http", "ws", 1));
                socket =
                    Some(tokio_tungstenite::connect_async(url).await.expect("the handshake is accepted").0);
            }
            let socket = socket.as_mut().expect("a recording opens first");
            if let Some(raw) = line["raw"].as_str().filter(|_| line["method"] == "TEXT") {
                socket.send(Message::text(raw)).await.expect("the socket is open");
                let answer = answer(socket).await;
                assert_eq!(answer["ack"], json!({"status": "ok", "error": null}), "{scenario}: {raw}");
                frames += 1;
            }
        }
    }
    println!("{frames} recorded frames acknowledged");
    assert!(frames > 0);
}
