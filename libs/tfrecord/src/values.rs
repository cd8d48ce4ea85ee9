//! The values of events as points, objects and params.

use std::collections::BTreeMap;

use matyan_proto::{ABSENT, limits};
use matyan_value::{Map, Value};
use matyan_wire::content_types;
use prost::Message;

use crate::{
    Bin, Distribution, Elements, TensorProto,
    decoded_size::is_bounded,
    hparams::{SessionOutcome, add_params, session_outcome},
    messages::{self, Event, Hparams, SummaryValue},
    plugins::{Plugin, Plugins},
};

/// Bytes of a text that are kept.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// The end of a text that was cut.
const CUT: &str = "\n… (cut)";

/// The prefix of the content types of images. The name of the format follows.
const IMAGE_PREFIX: &str = "image/";

/// A number of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub tag: String,
    pub value: f64,
    pub step: i64,
    pub time_us: i64,
}

/// The objects of one step of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub tag: String,
    pub dtype: &'static str,
    pub step: i64,
    pub time_us: Option<i64>,
    pub parts: Vec<ObjectPart>,
}

/// One of the objects of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectPart {
    pub value: Map,
    /// A file that belongs to the object.
    pub file: Option<ObjectFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    pub content: Vec<u8>,
    /// Extension of its name.
    pub format: &'static str,
    pub content_type: &'static str,
}

/// The content of some events.
#[derive(Debug, Default, PartialEq)]
pub struct EventContent {
    pub points: Vec<Point>,
    pub objects: Vec<Object>,
    pub hparams: Map,
    pub outcome: Option<SessionOutcome>,
    /// The start of the first session of hyperparameters, in microseconds since the Unix epoch. A run that is continued has
    /// several sessions.
    pub session_start_us: Option<i64>,
    /// The earliest and the latest time of an event, in microseconds since the Unix epoch.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
    /// Numbers of values that were left out, by the reason.
    pub left_out: BTreeMap<String, u64>,
    /// Number of values that describe the display, or a graph of operations.
    pub hidden: u64,
}

/// The place of a value in its series.
struct Place<'a> {
    tag: &'a str,
    step: i64,
    time_us: Option<i64>,
}

impl EventContent {
    /// Adds a record of an event file.
    pub fn add(&mut self, record: &[u8], plugins: &mut Plugins) {
        if is_bounded(record) == Ok(false) {
            self.leave_out("events with too many values");
            return;
        }
        let Ok(event) = Event::decode(record) else {
            self.leave_out("events that cannot be read");
            return;
        };
        let time_us = time_us(event.wall_time);
        if let Some(time_us) = time_us {
            self.first_us = Some(self.first_us.map_or(time_us, |first| first.min(time_us)));
            self.last_us = Some(self.last_us.map_or(time_us, |last| last.max(time_us)));
        }
        for value in event.summary.into_iter().flat_map(|summary| summary.values) {
            let name = if value.tag.is_empty() { &value.node_name } else { &value.tag };
            let tag = String::from_utf8_lossy(name).into_owned();
            // The smallest number stands for a missing step.
            let place = Place { tag: &tag, step: event.step.max(ABSENT + 1), time_us };
            self.add_value(&place, value, plugins);
        }
    }

    /// The time when the run began: the time that its writer states, or the time of the first event.
    pub fn created_us(&self) -> Option<i64> {
        self.session_start_us.or(self.first_us)
    }

    fn leave_out(&mut self, reason: impl Into<String>) {
        *self.left_out.entry(reason.into()).or_default() += 1;
    }

    fn add_value(&mut self, place: &Place<'_>, value: SummaryValue, plugins: &mut Plugins) {
        let data = value.metadata.and_then(|metadata| metadata.plugin).unwrap_or_default();
        let plugin = plugins.of_tag(place.tag, &data.name);
        if let Some(number) = value.number {
            self.add_point(place, number.into());
        } else if let Some(image) = value.image {
            let size = (image.width.into(), image.height.into());
            self.add_object(place, "image", vec![image_part(image.content, size)]);
        } else if let Some(histogram) = value.histogram {
            self.add_bins(place, &histogram.bins());
        } else if let Some(audio) = value.audio {
            self.add_object(place, "audio", vec![audio_of_file(audio)]);
        } else if let Some(tensor) = value.tensor {
            self.add_tensor(place, plugin, tensor);
        } else if data.name == b"hparams" {
            self.add_hparams(&data.content);
        } else if plugin == Some(Plugin::Hidden) {
            self.hidden += 1;
        } else {
            let name = String::from_utf8_lossy(&data.name);
            let name = if name.is_empty() { "an unknown kind".into() } else { name };
            self.leave_out(format!("values of {name}"));
        }
    }

    fn add_point(&mut self, place: &Place<'_>, value: f64) {
        let time_us = place.time_us.unwrap_or(ABSENT);
        self.points.push(Point { tag: place.tag.to_owned(), value, step: place.step, time_us });
    }

    fn add_object(&mut self, place: &Place<'_>, dtype: &'static str, parts: Vec<ObjectPart>) {
        if parts.is_empty() {
            return;
        }
        let Place { tag, step, time_us } = *place;
        self.objects.push(Object { tag: tag.to_owned(), dtype, step, time_us, parts });
    }

    fn add_bins(&mut self, place: &Place<'_>, bins: &[Bin]) {
        match Distribution::of_bins(bins) {
            Some(distribution) => {
                self.add_object(place, "distribution", vec![distribution_part(distribution)]);
            }
            // A histogram without samples.
            None if bins.is_empty() => {}
            None => self.leave_out("histograms with numbers that are not finite"),
        }
    }

    fn add_tensor(&mut self, place: &Place<'_>, plugin: Option<Plugin>, tensor: TensorProto) {
        if plugin == Some(Plugin::Hidden) {
            self.hidden += 1;
            return;
        }
        let sizes = tensor.sizes();
        let numbers = match tensor.elements() {
            Ok(Elements::Texts(texts)) => return self.add_texts(place, plugin, texts),
            Ok(Elements::Numbers(numbers)) => numbers,
            Err(problem) => return self.leave_out(problem.to_string()),
        };
        if let [number] = *numbers {
            return self.add_point(place, number);
        }
        let is_histogram = plugin == Some(Plugin::Histograms);
        match is_histogram.then(|| Bin::of_rows(&sizes, &numbers)).flatten() {
            Some(bins) => self.add_bins(place, &bins),
            None => self.leave_out("tensors with several elements, such as PR curves"),
        }
    }

    fn add_texts(&mut self, place: &Place<'_>, plugin: Option<Plugin>, texts: Vec<Vec<u8>>) {
        match plugin {
            Some(Plugin::Images) => {
                let mut texts = texts.into_iter();
                // The width and the height of all images come first.
                let mut size = || -> i64 {
                    let text = texts.next().unwrap_or_default();
                    String::from_utf8_lossy(&text).parse().unwrap_or_default()
                };
                let size = (size(), size());
                let parts = texts.map(|content| image_part(content, size)).collect();
                self.add_object(place, "image", parts);
            }
            Some(Plugin::Audio) => {
                // Rows of a recording and its label.
                let parts = texts.chunks(2).map(|row| {
                    let label = row.get(1).map(|label| String::from_utf8_lossy(label).into_owned());
                    audio_part(row[0].clone(), label.unwrap_or_default(), None)
                });
                let parts = parts.collect();
                self.add_object(place, "audio", parts);
            }
            _ => {
                let texts = texts.iter().map(|text| String::from_utf8_lossy(text));
                let text = fitting_text(texts.collect::<Vec<_>>().join("\n"));
                let value = Map::from([("data".to_owned(), Value::Text(text))]);
                self.add_object(place, "text", vec![ObjectPart { value, file: None }]);
            }
        }
    }

    fn add_hparams(&mut self, content: &[u8]) {
        if content.len() > limits::RUN_PARAMS_BYTES {
            self.leave_out("hyperparameters that take more room than a run has");
            return;
        }
        let Ok(hparams) = Hparams::decode(content) else {
            self.leave_out("hyperparameters that cannot be read");
            return;
        };
        if let Some(start) = hparams.session_start {
            add_params(&mut self.hparams, start.hparams);
            self.session_start_us = self.session_start_us.into_iter().chain(time_us(start.start_time)).min();
        }
        if let Some(end) = hparams.session_end {
            self.outcome = session_outcome(end.status);
        }
    }
}

/// Microseconds since the Unix epoch; `None` if a writer has set no time.
fn time_us(seconds: f64) -> Option<i64> {
    let is_set = seconds.is_finite() && seconds > 0.0;
    // The conversion saturates.
    is_set.then(|| ((seconds * 1e6).round() as i64).min(i64::MAX - 1))
}

/// A text of bounded size, without a part of a character.
fn fitting_text(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push_str(CUT);
    }
    text
}

/// A caption with the maximum size of a name.
fn fitting_caption(text: String) -> Value {
    let end = (0..=limits::NAME_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    Value::Text(text[..end.unwrap_or_default()].to_owned())
}

fn distribution_part(distribution: Distribution) -> ObjectPart {
    let Distribution { low, high, weights } = distribution;
    let count = i64::try_from(weights.len()).unwrap_or(i64::MAX);
    let numbers = |numbers: Vec<f64>| Value::List(numbers.into_iter().map(Value::Float).collect());
    let value = Map::from([
        ("bin_count".to_owned(), Value::Integer(count)),
        ("data".to_owned(), numbers(weights)),
        ("range".to_owned(), numbers(vec![low, high])),
    ]);
    ObjectPart { value, file: None }
}

fn image_part(content: Vec<u8>, (width, height): (i64, i64)) -> ObjectPart {
    let found = content_types::of_content("", &content);
    let content_type = if found.starts_with(IMAGE_PREFIX) { found } else { "image/png" };
    let format = content_type.trim_start_matches(IMAGE_PREFIX);
    let mut value = Map::from([("format".to_owned(), Value::Text(format.to_owned()))]);
    for (name, pixels) in [("width", width), ("height", height)] {
        if pixels > 0 {
            value.insert(name.to_owned(), Value::Integer(pixels));
        }
    }
    ObjectPart { value, file: Some(ObjectFile { content, format, content_type }) }
}

fn audio_of_file(audio: messages::Audio) -> ObjectPart {
    // The conversion saturates.
    let rate = audio.sample_rate.round() as i64;
    audio_part(audio.content, String::new(), (rate > 0).then_some(rate))
}

fn audio_part(content: Vec<u8>, caption: String, rate: Option<i64>) -> ObjectPart {
    let mut value = Map::from([("format".to_owned(), Value::Text("wav".to_owned()))]);
    if !caption.is_empty() {
        value.insert("caption".to_owned(), fitting_caption(caption));
    }
    if let Some(rate) = rate {
        value.insert("rate".to_owned(), Value::Integer(rate));
    }
    ObjectPart { value, file: Some(ObjectFile { content, format: "wav", content_type: "audio/wav" }) }
}

#[cfg(test)]
mod tests;
