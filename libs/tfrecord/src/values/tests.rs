use super::*;
use crate::{
    Dimension, Histogram, Shape,
    decoded_size::tests::event_of_values,
    messages::{Image, Metadata, PluginData, SessionEnd, SessionStart, Summary},
};

const STRING: i32 = 7;
const FLOAT: i32 = 1;

fn value(tag: &str, plugin: &str) -> SummaryValue {
    let plugin = PluginData { name: plugin.as_bytes().to_vec(), content: Vec::new() };
    let metadata = Some(Metadata { plugin: Some(plugin) });
    SummaryValue { tag: tag.as_bytes().to_vec(), metadata, ..SummaryValue::default() }
}

fn event(step: i64, values: Vec<SummaryValue>) -> Vec<u8> {
    Event { wall_time: 1e9, step, summary: Some(Summary { values }) }.encode_to_vec()
}

fn reading(values: Vec<SummaryValue>) -> EventContent {
    let mut reading = EventContent::default();
    reading.add(&event(3, values), &mut Plugins::default());
    reading
}

fn texts(texts: &[&str]) -> Option<TensorProto> {
    let texts = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    Some(TensorProto { element_type: STRING, texts, ..TensorProto::default() })
}

fn text_of<'a>(part: &'a ObjectPart, name: &str) -> &'a str {
    let Some(Value::Text(text)) = part.value.get(name) else { panic!("no text {name}: {part:?}") };
    text
}

#[test]
fn scalars_of_all_writers_are_points_with_the_bits_of_the_file() {
    let tensor = TensorProto { element_type: FLOAT, floats: vec![0.1], ..TensorProto::default() };
    let reading = reading(vec![
        SummaryValue { number: Some(0.1), ..value("loss", "") },
        SummaryValue { tensor: Some(tensor), ..value("acc", "scalars") },
        SummaryValue { number: Some(f32::NAN), ..value("nan", "") },
        SummaryValue { tag: Vec::new(), node_name: b"old".to_vec(), number: Some(1.0), ..value("", "") },
    ]);
    let found: Vec<_> = reading.points.iter().map(|point| (point.tag.as_str(), point.step)).collect();
    assert_eq!(found, [("loss", 3), ("acc", 3), ("nan", 3), ("old", 3)]);
    assert_eq!(reading.points[0].value, 0.100_000_001_490_116_12);
    assert_eq!(reading.points[1].value, 0.100_000_001_490_116_12);
    assert!(reading.points[2].value.is_nan());
    assert_eq!(reading.points[0].time_us, 1_000_000_000_000_000);
    assert_eq!(
        (reading.first_us, reading.last_us),
        (Some(1_000_000_000_000_000), Some(1_000_000_000_000_000))
    );
    assert!(reading.left_out.is_empty());
}

#[test]
fn media_of_tensors_are_objects() {
    let reading = reading(vec![
        SummaryValue { tensor: texts(&["4", "2", "\u{89}PNG", "GIF89a"]), ..value("pictures", "images") },
        SummaryValue { tensor: texts(&["RIFF", "a bell", "RIFF"]), ..value("sounds", "audio") },
        SummaryValue { tensor: texts(&["one", "two"]), ..value("notes", "text") },
        SummaryValue { tensor: texts(&[]), ..value("nothing", "images") },
    ]);
    let kinds: Vec<_> = reading.objects.iter().map(|object| (object.dtype, object.parts.len())).collect();
    assert_eq!(kinds, [("image", 2), ("audio", 2), ("text", 1)]);
    let picture = &reading.objects[0].parts[1];
    assert_eq!((picture.value.get("width"), text_of(picture, "format")), (Some(&Value::Integer(4)), "gif"));
    assert_eq!(text_of(&reading.objects[1].parts[0], "caption"), "a bell");
    assert_eq!(text_of(&reading.objects[2].parts[0], "data"), "one\ntwo");
}

#[test]
fn media_of_old_writers_are_objects() {
    let image = Image { height: 2, width: 4, content: vec![0xff, 0xd8, 0xff, 0] };
    let audio = messages::Audio { sample_rate: 8_000.0, content: b"RIFF".to_vec() };
    let histogram = Histogram { min: 0.0, max: 2.0, limits: vec![1.0, 2.0], weights: vec![1.0, 2.0] };
    let reading = reading(vec![
        SummaryValue { image: Some(image), ..value("a", "") },
        SummaryValue { audio: Some(audio), ..value("b", "") },
        SummaryValue { histogram: Some(histogram), ..value("c", "") },
    ]);
    assert_eq!(text_of(&reading.objects[0].parts[0], "format"), "jpeg");
    assert_eq!(reading.objects[1].parts[0].value.get("rate"), Some(&Value::Integer(8_000)));
    let histogram = &reading.objects[2];
    assert_eq!(histogram.dtype, "distribution");
    let floats = |numbers: &[f64]| Value::List(numbers.iter().copied().map(Value::Float).collect());
    let expected = Map::from([
        ("bin_count".to_owned(), Value::Integer(2)),
        ("data".to_owned(), floats(&[1.0, 2.0])),
        ("range".to_owned(), floats(&[0.0, 2.0])),
    ]);
    assert_eq!(histogram.parts[0].value, expected);
}

#[test]
fn the_plugin_of_a_tag_is_known_from_its_first_value() {
    let mut plugins = Plugins::default();
    let mut reading = EventContent::default();
    let tensor = TensorProto {
        element_type: FLOAT,
        floats: vec![0.0, 1.0, 5.0, 1.0, 2.0, 6.0],
        shape: Some(Shape { dimensions: vec![Dimension { size: 2 }, Dimension { size: 3 }] }),
        ..TensorProto::default()
    };
    let first = SummaryValue { tensor: Some(tensor.clone()), ..value("weights", "histograms") };
    let second = SummaryValue { tensor: Some(tensor), ..value("weights", "") };
    reading.add(&event(0, vec![first]), &mut plugins);
    reading.add(&event(1, vec![second]), &mut plugins);
    let found: Vec<_> = reading.objects.iter().map(|object| (object.dtype, object.step)).collect();
    assert_eq!(found, [("distribution", 0), ("distribution", 1)]);
}

#[test]
fn hyperparameters_are_params_and_the_session_has_an_outcome() {
    let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(0.5)) };
    let start = SessionStart { hparams: [("opt/lr".to_owned(), number)].into(), start_time: 9e8 };
    let hparams = Hparams { session_start: Some(start), session_end: Some(SessionEnd { status: 2 }) };
    let reading = reading(vec![hparams_value(&hparams)]);
    let opt = Value::Map(Map::from([("lr".to_owned(), Value::Float(0.5))]));
    assert_eq!(reading.hparams, Map::from([("opt".to_owned(), opt)]));
    assert_eq!(reading.outcome, Some(SessionOutcome::Failed));
    assert_eq!(reading.created_us(), Some(900_000_000_000_000));
}

#[test]
fn hyperparameters_of_several_events_are_joined() {
    let values = ["model/layers", "model/width"].map(|name| {
        let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(3.0)) };
        let start = SessionStart { hparams: [(name.to_owned(), number)].into(), start_time: 0.0 };
        hparams_value(&Hparams { session_start: Some(start), session_end: None })
    });
    let reading = reading(values.into());
    let model = Map::from(["layers", "width"].map(|name| (name.to_owned(), Value::Integer(3))));
    assert_eq!(reading.hparams, Map::from([("model".to_owned(), Value::Map(model))]));
    assert_eq!(reading.created_us(), reading.first_us);
}

#[test]
fn a_run_begins_with_its_first_session() {
    let values = [0.0, 8e8, 9e8].map(|start_time| {
        let start = SessionStart { start_time, ..SessionStart::default() };
        hparams_value(&Hparams { session_start: Some(start), session_end: None })
    });
    assert_eq!(reading(values.into()).created_us(), Some(800_000_000_000_000));
}

fn hparams_value(hparams: &Hparams) -> SummaryValue {
    let plugin = PluginData { name: b"hparams".to_vec(), content: hparams.encode_to_vec() };
    let metadata = Some(Metadata { plugin: Some(plugin) });
    SummaryValue { metadata, ..value("_hparams_/session_start_info", "") }
}

#[test]
fn values_that_cannot_be_shown_are_counted() {
    let pair = TensorProto { element_type: FLOAT, floats: vec![1.0, 2.0], ..TensorProto::default() };
    let complex = TensorProto { element_type: 8, ..TensorProto::default() };
    let mut reading = reading(vec![
        SummaryValue { tensor: Some(pair), ..value("pair", "pr_curves") },
        SummaryValue { tensor: Some(complex), ..value("complex", "") },
        value("mesh", "mesh"),
        value("graph", "graphs"),
    ]);
    reading.add(b"\xff\xff", &mut Plugins::default());
    reading.add(&event_of_values(1_000_000), &mut Plugins::default());
    let hparams = PluginData { name: b"hparams".to_vec(), content: vec![0; limits::RUN_PARAMS_BYTES + 1] };
    let metadata = Some(Metadata { plugin: Some(hparams) });
    reading
        .add(&event(3, vec![SummaryValue { metadata, ..SummaryValue::default() }]), &mut Plugins::default());
    let reasons: Vec<_> = reading.left_out.keys().map(String::as_str).collect();
    let expected = [
        "events that cannot be read",
        "events with too many values",
        "hyperparameters that take more room than a run has",
        "tensors with elements that are neither real numbers nor texts",
        "tensors with several elements, such as PR curves",
        "values of mesh",
    ];
    assert_eq!(reasons, expected);
    assert_eq!(reading.hidden, 1);
    assert!(reading.points.is_empty() && reading.objects.is_empty());
}

#[test]
fn a_text_is_cut_between_characters() {
    let cut = fitting_text("é".repeat(MAX_TEXT_BYTES));
    assert!(cut.len() <= MAX_TEXT_BYTES + CUT.len() && cut.ends_with("é\n… (cut)"));
    assert_eq!(fitting_text("short".to_owned()), "short");
}
