//! Objects of this server that are made from values of history rows that are not numbers.

use matyan_value::json::{self, JsonStyle};
use matyan_value::{Map, Value};

/// An object of a sequence: its type, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MediaObject {
    pub(crate) dtype: &'static str,
    pub(crate) value: Value,
}

/// The member that names the kind of medium that a map describes.
const TYPE: &str = "_type";

/// Bins of a histogram that are read; W&B allows 512.
const MAX_BINS: usize = 4_096;

/// Returns whether a map describes a medium, and is not a nested row.
pub(crate) fn is_medium(map: &Map) -> bool {
    map.contains_key(TYPE)
}

/// The object for a value of a run. Files that the value refers to are files of the run. A value that no type of
/// objects can show is kept as text.
pub(crate) fn object(run_id: &str, value: &Value) -> MediaObject {
    let shown = match value {
        Value::Map(map) => of_map(run_id, map),
        Value::List(members) => of_list(run_id, members),
        _ => None,
    };
    shown.unwrap_or_else(|| match value {
        Value::Text(text) => text_object(text.clone()),
        other => text_object(json::value_text(other, JsonStyle::BARE)),
    })
}

/// An object of a text.
pub(crate) fn text_object(data: String) -> MediaObject {
    MediaObject { dtype: "text", value: Value::Map(Map::from([("data".to_owned(), Value::Text(data))])) }
}

fn of_map(run_id: &str, map: &Map) -> Option<MediaObject> {
    match text(map, TYPE)? {
        "image-file" => Some(MediaObject { dtype: "image", value: file(run_id, map, text(map, "path")?)? }),
        "audio-file" => Some(MediaObject { dtype: "audio", value: file(run_id, map, text(map, "path")?)? }),
        "html-file" => Some(MediaObject { dtype: "html", value: file(run_id, map, text(map, "path")?)? }),
        "object3D-file" => point_cloud(run_id, map),
        "images/separated" | "images" => images(run_id, map),
        "audio" => match map.get("audio")? {
            Value::List(members) => of_list(run_id, members),
            _ => None,
        },
        "histogram" => histogram(map),
        _ => None,
    }
}

/// A list of media of one type.
fn of_list(run_id: &str, members: &[Value]) -> Option<MediaObject> {
    let objects: Option<Vec<MediaObject>> =
        members.iter().map(|member| of_map(run_id, member.as_map()?)).collect();
    let objects = objects.filter(|objects| !objects.is_empty())?;
    let dtype = objects.first()?.dtype;
    let is_same = objects.iter().all(|object| object.dtype == dtype && matches!(object.value, Value::Map(_)));
    is_same.then(|| {
        let values = objects.into_iter().map(|object| object.value).collect();
        MediaObject { dtype, value: Value::List(values) }
    })
}

fn text<'a>(map: &'a Map, name: &str) -> Option<&'a str> {
    match map.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// A reference to a file of the run; `None` if the path leads out of the run.
fn file(run_id: &str, map: &Map, path: &str) -> Option<Value> {
    let path = crate::names::file_path(path).ok()?;
    let mut value = Map::from([("s3_key".to_owned(), Value::Text(format!("{run_id}/{path}")))]);
    for (name, shown) in
        [("caption", "caption"), ("format", "format"), ("width", "width"), ("height", "height")]
    {
        if let Some(member @ (Value::Text(_) | Value::Integer(_))) = map.get(name) {
            value.insert(shown.to_owned(), member.clone());
        }
    }
    if let Some(rate @ Value::Integer(_)) = map.get("sample_rate") {
        value.insert("rate".to_owned(), rate.clone());
    }
    if !value.contains_key("format")
        && let Some((_, extension)) = path.rsplit_once('.')
    {
        value.insert("format".to_owned(), Value::Text(extension.to_owned()));
    }
    Some(Value::Map(value))
}

/// Several images of one step, whose sizes and formats are the same.
fn images(run_id: &str, map: &Map) -> Option<MediaObject> {
    let Some(Value::List(paths)) = map.get("filenames") else { return None };
    let captions = match map.get("captions") {
        Some(Value::List(captions)) => captions.as_slice(),
        _ => &[],
    };
    let image = |(index, path): (usize, &Value)| {
        let Value::Text(path) = path else { return None };
        let mut value = file(run_id, map, path)?;
        if let (Value::Map(value), Some(caption @ Value::Text(_))) = (&mut value, captions.get(index)) {
            value.insert("caption".to_owned(), caption.clone());
        }
        Some(value)
    };
    let values: Vec<Value> = paths.iter().enumerate().map(image).collect::<Option<_>>()?;
    (!values.is_empty()).then_some(MediaObject { dtype: "image", value: Value::List(values) })
}

/// The file of points that W&B's client writes; a file of a scene, such as `scene.gltf`, is no point cloud.
fn point_cloud(run_id: &str, map: &Map) -> Option<MediaObject> {
    const POINTS: &str = "pts.json";
    let path = text(map, "path").filter(|path| path.ends_with(&format!(".{POINTS}")))?;
    let mut value = file(run_id, map, path)?;
    if let Value::Map(value) = &mut value {
        value.insert("format".to_owned(), Value::Text(POINTS.to_owned()));
    }
    Some(MediaObject { dtype: "point_cloud", value })
}

fn histogram(map: &Map) -> Option<MediaObject> {
    let Some(Value::List(weights)) = map.get("values") else { return None };
    let weights: Vec<f64> = weights.iter().map(float).collect::<Option<_>>()?;
    if weights.is_empty() || weights.len() > MAX_BINS {
        return None;
    }
    let (low, high) = match (map.get("bins"), map.get("packedBins")) {
        (Some(Value::List(bins)), _) => (float(bins.first()?)?, float(bins.last()?)?),
        (_, Some(Value::Map(packed))) => {
            let low = float(packed.get("min")?)?;
            (low, float(packed.get("size")?)?.mul_add(weights.len() as f64, low))
        }
        _ => return None,
    };
    let numbers = |numbers: Vec<f64>| Value::List(numbers.into_iter().map(Value::Float).collect());
    let count = i64::try_from(weights.len()).ok()?;
    let value = Map::from([
        ("bin_count".to_owned(), Value::Integer(count)),
        ("data".to_owned(), numbers(weights)),
        ("range".to_owned(), numbers(vec![low, high])),
    ]);
    Some(MediaObject { dtype: "distribution", value: Value::Map(value) })
}

/// A number as a float. Booleans count, as in charts of W&B.
pub(crate) fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(float) => Some(*float),
        Value::Integer(integer) => Some(*integer as f64),
        Value::Big(big) => Some(big.to_f64()),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        Value::Null | Value::Bytes(_) | Value::List(_) | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (&'static str, String) {
        let MediaObject { dtype, value } = object("r:p", &json::parse(text).unwrap());
        (dtype, json::value_text(&value, JsonStyle::BARE))
    }

    #[test]
    fn media_refer_to_files_of_the_run() {
        let image = r#"{"_type": "image-file", "path": "media/a.png", "width": 2, "height": 3, "caption": "c", "size": 9}"#;
        let expected = r#"{"caption":"c","format":"png","height":3,"s3_key":"r:p/media/a.png","width":2}"#;
        assert_eq!(shown(image), ("image", expected.to_owned()));
        let several = r#"{"_type": "images/separated", "filenames": ["a.png", "b.png"], "format": "png", "captions": ["x"]}"#;
        let expected =
            r#"[{"caption":"x","format":"png","s3_key":"r:p/a.png"},{"format":"png","s3_key":"r:p/b.png"}]"#;
        assert_eq!(shown(several), ("image", expected.to_owned()));
        let audio = r#"[{"_type": "audio-file", "path": "a.wav", "sample_rate": 8000}]"#;
        assert_eq!(
            shown(audio),
            ("audio", r#"[{"format":"wav","rate":8000,"s3_key":"r:p/a.wav"}]"#.to_owned())
        );
    }

    #[test]
    fn pages_and_points_refer_to_files_of_the_run() {
        let page = r#"{"_type": "html-file", "path": "media/html/p_1_ab.html", "sha256": "0", "size": 9}"#;
        let expected = r#"{"format":"html","s3_key":"r:p/media/html/p_1_ab.html"}"#;
        assert_eq!(shown(page), ("html", expected.to_owned()));
        let cloud = r#"{"_type": "object3D-file", "path": "media/object3D/c.pts.json", "caption": "c"}"#;
        let expected = r#"{"caption":"c","format":"pts.json","s3_key":"r:p/media/object3D/c.pts.json"}"#;
        assert_eq!(shown(cloud), ("point_cloud", expected.to_owned()));
        let scene = r#"{"_type": "object3D-file", "path": "media/object3D/c.gltf"}"#;
        assert_eq!(shown(scene).0, "text");
    }

    #[test]
    fn histograms_are_distributions() {
        let expected = r#"{"bin_count":2,"data":[1.0,2.0],"range":[0.0,4.0]}"#;
        let bins = r#"{"_type": "histogram", "values": [1, 2], "bins": [0, 2, 4]}"#;
        assert_eq!(shown(bins), ("distribution", expected.to_owned()));
        let packed =
            r#"{"_type": "histogram", "values": [1, 2], "packedBins": {"min": 0, "size": 2, "count": 2}}"#;
        assert_eq!(shown(packed), ("distribution", expected.to_owned()));
    }

    #[test]
    fn values_that_cannot_be_shown_are_kept_as_text() {
        for text in [
            r#"{"_type":"table-file","path":"t.json"}"#,
            r#"{"_type":"image-file","path":"../other/a.png"}"#,
            r#"{"_type":"histogram","bins":[],"values":[]}"#,
            r#"[1,"a"]"#,
        ] {
            let (dtype, value) = shown(text);
            assert_eq!(dtype, "text", "{text}");
            let value = json::parse(&value).unwrap();
            assert_eq!(value.as_map().and_then(|map| map.get("data")), Some(&Value::Text(text.to_owned())));
        }
        assert_eq!(shown("\"hello\""), ("text", r#"{"data":"hello"}"#.to_owned()));
    }
}
