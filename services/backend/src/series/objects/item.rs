//! Conversion of stored objects into their API form. Values come from clients: fields that are
//! missing or of another type get a default, so that one malformed object does not hide the
//! others.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use matyan_blob::BlobKey;
use matyan_model::{
    ids::NamedProject,
    object::{Object, ObjectValue},
    pending_payload::pending_get,
};
use matyan_proto::{
    common::v1::SeriesType,
    objects::v1::{
        Audio, Distribution, Figure, Html, Image, Object as Item, PointCloud, Selection, Text, object::Kind,
    },
};
use matyan_value::{Map, Value, cbor};

use crate::server::{
    deps::Deps,
    error::{Error, Result},
};

/// The objects of one step: usually one, or a list.
pub(crate) async fn items(
    deps: &Deps,
    project: &NamedProject,
    series_type: SeriesType,
    object: &Object,
) -> Result<Vec<Item>> {
    let project_name = project.name.as_str();
    let values = match value(deps, project, &object.value).await {
        Ok(Some(encoded)) => cbor::decode(&encoded).map_err(|error| error.to_string()),
        Ok(None) => Err("payload is missing".to_owned()),
        // The reference will never be a valid key, so retrying would not help.
        Err(Error::Blobs(error @ matyan_blob::Error::BadKey { .. })) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    let values = match values {
        Ok(Value::List(values)) => values,
        Ok(value) => vec![value],
        Err(reason) => {
            tracing::warn!(
                step = object.step,
                reason,
                "failed to read objects of step; sent without objects"
            );
            return Ok(Vec::new());
        }
    };
    let item = |(index, value): (u32, Value)| {
        let map = if let Value::Map(map) = value { map } else { Map::new() };
        Some(Item { index, kind: Some(kind(deps, project_name, series_type, map)?) })
    };
    Ok((0..).zip(values).filter_map(item).collect())
}

/// An encoded value, stored inline or in a blob; `None` if the blob is missing.
pub(crate) async fn value(deps: &Deps, project: &NamedProject, value: &ObjectValue) -> Result<Option<Bytes>> {
    let blob = match value {
        ObjectValue::Inline(encoded) => return Ok(Some(encoded.clone())),
        ObjectValue::Blob(blob) => blob,
    };
    // A payload is removed from here only when it is in the blob store.
    let pending = pending_get(&*deps.store.snapshot().await?, project.number, blob).await?;
    match pending {
        Some(encoded) => Ok(Some(encoded)),
        None => payload(deps, &BlobKey::in_project(&project.name, &blob.key)?).await,
    }
}

/// Reads a value that was too large for a row.
async fn payload(deps: &Deps, key: &BlobKey) -> Result<Option<Bytes>> {
    let Some((_, mut content)) = deps.blobs.read(key, None).await? else { return Ok(None) };
    let mut payload = BytesMut::new();
    while let Some(piece) = content.next().await {
        payload.extend_from_slice(&piece?);
    }
    Ok(Some(payload.freeze()))
}

fn kind(deps: &Deps, project_name: &str, series_type: SeriesType, mut map: Map) -> Option<Kind> {
    Some(match series_type {
        SeriesType::Images => Kind::Image(Image {
            caption: text(&mut map, "caption"),
            width: natural(&map, "width"),
            height: natural(&map, "height"),
            format: format(&mut map, "png"),
            blob_uri: uri(deps, project_name, &mut map),
        }),
        SeriesType::Audios => Kind::Audio(Audio {
            caption: text(&mut map, "caption"),
            rate: natural(&map, "rate"),
            format: format(&mut map, "wav"),
            blob_uri: uri(deps, project_name, &mut map),
        }),
        SeriesType::Texts => Kind::Text(Text { data: text(&mut map, "data") }),
        SeriesType::Distributions => Kind::Distribution(distribution(&map)),
        SeriesType::Figures => Kind::Figure(Figure { data: figure(map) }),
        SeriesType::Htmls => Kind::Html(Html {
            caption: text(&mut map, "caption"),
            blob_uri: uri(deps, project_name, &mut map),
        }),
        SeriesType::PointClouds => Kind::PointCloud(PointCloud {
            caption: text(&mut map, "caption"),
            point_count: natural(&map, "point_count"),
            format: format(&mut map, "ply"),
            blob_uri: uri(deps, project_name, &mut map),
        }),
        SeriesType::Metric | SeriesType::Unspecified => return None,
    })
}

fn text(map: &mut Map, key: &str) -> String {
    match map.remove(key) {
        Some(Value::Text(text)) => text,
        _ => String::new(),
    }
}

fn format(map: &mut Map, default: &str) -> String {
    let format = text(map, "format");
    if format.is_empty() { default.to_owned() } else { format }
}

fn natural(map: &Map, key: &str) -> Option<u32> {
    match map.get(key) {
        Some(Value::Integer(number)) => u32::try_from(*number).ok(),
        _ => None,
    }
}

/// The URI of the object's blob; empty if the client gave no valid key.
fn uri(deps: &Deps, project_name: &str, map: &mut Map) -> String {
    match BlobKey::in_project(project_name, &text(map, "s3_key")) {
        Ok(key) => deps.uri_key.uri(&key),
        Err(_) => String::new(),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(float) => Some(*float),
        Value::Integer(integer) => Some(*integer as f64),
        Value::Big(big) => Some(big.to_f64()),
        Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
        _ => None,
    }
}

/// Decodes a distribution. Weights are a list of numbers or, from converted TensorBoard files,
/// hexadecimal text of little-endian floats.
fn distribution(map: &Map) -> Distribution {
    let weights = match map.get("data") {
        Some(Value::List(weights)) => {
            weights.iter().map(|weight| float(weight).unwrap_or(f64::NAN)).collect()
        }
        Some(Value::Text(hexadecimal)) => floats(&hex::decode(hexadecimal).unwrap_or_default()),
        Some(Value::Bytes(bytes)) => floats(bytes),
        _ => Vec::new(),
    };
    let bound = |index: usize| match map.get("range") {
        Some(Value::List(range)) => range.get(index).and_then(float).unwrap_or_default(),
        _ => 0.0,
    };
    Distribution { weights, low: bound(0), high: bound(1) }
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    let (floats, _) = bytes.as_chunks();
    floats.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

fn figure(mut map: Map) -> Bytes {
    match map.remove("data") {
        Some(Value::Map(figure)) => cbor::encode_map(&figure).into(),
        _ => cbor::encode_map(&Map::new()).into(),
    }
}

/// The requested objects of a step, each with its index in the whole list.
pub(crate) fn select(items: Vec<Item>, selection: &Selection) -> Vec<Item> {
    let range = selection.index_range.unwrap_or_default();
    let start = range.start.unwrap_or_default();
    let stop = range.stop.unwrap_or(u32::MAX);
    let inside: Vec<Item> = items.into_iter().filter(|item| (start..stop).contains(&item.index)).collect();
    let density = selection.index_density as usize;
    if density == 0 || inside.len() <= density {
        return inside;
    }
    // This would divide by zero below.
    if density == 1 {
        return inside.into_iter().take(1).collect();
    }
    let index_at =
        |index: usize| (index as f64 * (inside.len() - 1) as f64 / (density - 1) as f64).round_ties_even();
    (0..density).map(|index| inside[index_at(index) as usize].clone()).collect()
}
