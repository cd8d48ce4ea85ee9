//! Objects as rows: each object of a step is one, with the columns of its type.

use std::{collections::VecDeque, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch, UInt32Array,
    builder::{Float64Builder, StringBuilder, UInt32Builder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use matyan_proto::{
    common::v1::SeriesType,
    export::v1::ObjectsRequest,
    objects::v1::{Object, Step, object::Kind},
    runs::v1::RunParts,
    search::v1::{self as search, ObjectsResponse},
};
use matyan_value::json::{JsonStyle, cbor_text, write_float};

use super::{
    file::{BATCH_ROWS, BATCH_TEXT_BYTES, RowsError, SearchStatus, TableRows},
    row_columns::{CurrentRun, RowColumns, SeriesTexts},
    run_selection::run_numbers,
};
use crate::{
    query::{
        catalog::Catalog,
        search::{ObjectSequences, SearchScope, SequenceSearch, search_objects},
    },
    server::{
        call::Call,
        error::{Error, Result},
    },
};

/// The search for the objects of a request.
pub(super) async fn search(
    catalog: &Catalog,
    call: Call,
    request: ObjectsRequest,
) -> Result<(SequenceSearch, ObjectSequences)> {
    let runs = run_numbers(&catalog.deps, &call, &request.run_ids).await?;
    let request = search::ObjectsRequest {
        query: request.query,
        r#type: request.r#type,
        parts: Some(RunParts { props: true, ..RunParts::default() }),
        ..search::ObjectsRequest::default()
    };
    let (search, sequences) = search_objects(catalog, call, request).await?;
    Ok((search.within(SearchScope { runs, newest: None }), sequences))
}

/// An object, and the rest of its row.
struct ObjectRow {
    series: Arc<SeriesTexts>,
    step: i64,
    epoch: Option<i64>,
    time_us: Option<i64>,
    object: Object,
}

pub(super) struct ObjectRows {
    schema: SchemaRef,
    run: CurrentRun,
    pending: VecDeque<ObjectRow>,
    /// A step that was sent without its objects, because they are too large for a message.
    too_large: Option<i64>,
    columns: PositionColumns,
    content: ContentColumns,
    text_bytes: usize,
}

/// The position of each object in a batch.
#[derive(Default)]
struct PositionColumns {
    rows: RowColumns,
    indexes: Vec<u32>,
}

/// The content of the objects in a batch.
enum ContentColumns {
    Images {
        caption: StringBuilder,
        size: [UInt32Builder; 2],
        format: StringBuilder,
        uri: StringBuilder,
    },
    Audios {
        caption: StringBuilder,
        rate: UInt32Builder,
        format: StringBuilder,
        uri: StringBuilder,
    },
    Texts(StringBuilder),
    Distributions {
        bounds: [Float64Builder; 2],
        weights: StringBuilder,
    },
    Figures(StringBuilder),
    Htmls {
        caption: StringBuilder,
        uri: StringBuilder,
    },
    PointClouds {
        caption: StringBuilder,
        point_count: UInt32Builder,
        format: StringBuilder,
        uri: StringBuilder,
    },
}

impl ContentColumns {
    fn new(series_type: SeriesType) -> Self {
        match series_type {
            SeriesType::Images => Self::Images {
                caption: StringBuilder::new(),
                size: [UInt32Builder::new(), UInt32Builder::new()],
                format: StringBuilder::new(),
                uri: StringBuilder::new(),
            },
            SeriesType::Audios => Self::Audios {
                caption: StringBuilder::new(),
                rate: UInt32Builder::new(),
                format: StringBuilder::new(),
                uri: StringBuilder::new(),
            },
            SeriesType::Distributions => Self::Distributions {
                bounds: [Float64Builder::new(), Float64Builder::new()],
                weights: StringBuilder::new(),
            },
            SeriesType::Figures => Self::Figures(StringBuilder::new()),
            SeriesType::Htmls => Self::Htmls { caption: StringBuilder::new(), uri: StringBuilder::new() },
            SeriesType::PointClouds => Self::PointClouds {
                caption: StringBuilder::new(),
                point_count: UInt32Builder::new(),
                format: StringBuilder::new(),
                uri: StringBuilder::new(),
            },
            // Others are refused by the search.
            SeriesType::Texts | SeriesType::Metric | SeriesType::Unspecified => {
                Self::Texts(StringBuilder::new())
            }
        }
    }

    fn fields(&self) -> Vec<Field> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let natural = |name: &str| Field::new(name, DataType::UInt32, true);
        let float = |name: &str| Field::new(name, DataType::Float64, false);
        match self {
            Self::Images { .. } => {
                vec![text("caption"), natural("width"), natural("height"), text("format"), text("blob_uri")]
            }
            Self::Audios { .. } => vec![text("caption"), natural("rate"), text("format"), text("blob_uri")],
            Self::Texts(_) => vec![text("text")],
            Self::Distributions { .. } => vec![float("low"), float("high"), text("weights")],
            Self::Figures(_) => vec![text("figure")],
            Self::Htmls { .. } => vec![text("caption"), text("blob_uri")],
            Self::PointClouds { .. } => {
                vec![text("caption"), natural("point_count"), text("format"), text("blob_uri")]
            }
        }
    }

    /// Adds an object, and returns the size of its texts.
    fn push(&mut self, kind: Option<Kind>) -> Result<usize> {
        match (self, kind) {
            (Self::Images { caption, size, format, uri }, Some(Kind::Image(image))) => {
                caption.append_value(&image.caption);
                size[0].append_option(image.width);
                size[1].append_option(image.height);
                format.append_value(&image.format);
                uri.append_value(&image.blob_uri);
                Ok(image.caption.len() + image.blob_uri.len())
            }
            (Self::Audios { caption, rate, format, uri }, Some(Kind::Audio(audio))) => {
                caption.append_value(&audio.caption);
                rate.append_option(audio.rate);
                format.append_value(&audio.format);
                uri.append_value(&audio.blob_uri);
                Ok(audio.caption.len() + audio.blob_uri.len())
            }
            (Self::Texts(texts), Some(Kind::Text(text))) => {
                texts.append_value(&text.data);
                Ok(text.data.len())
            }
            (Self::Distributions { bounds, weights }, Some(Kind::Distribution(distribution))) => {
                bounds[0].append_value(distribution.low);
                bounds[1].append_value(distribution.high);
                let json = float_list(&distribution.weights);
                weights.append_value(&json);
                Ok(json.len())
            }
            (Self::Figures(figures), Some(Kind::Figure(figure))) => {
                let json = cbor_text(&figure.data, JsonStyle::CANONICAL);
                let json =
                    json.map_err(|error| Error::Unwritable(format!("a figure is invalid: {error}")))?;
                figures.append_value(&json);
                Ok(json.len())
            }
            (Self::Htmls { caption, uri }, Some(Kind::Html(html))) => {
                caption.append_value(&html.caption);
                uri.append_value(&html.blob_uri);
                Ok(html.caption.len() + html.blob_uri.len())
            }
            (Self::PointClouds { caption, point_count, format, uri }, Some(Kind::PointCloud(cloud))) => {
                caption.append_value(&cloud.caption);
                point_count.append_option(cloud.point_count);
                format.append_value(&cloud.format);
                uri.append_value(&cloud.blob_uri);
                Ok(cloud.caption.len() + cloud.blob_uri.len())
            }
            _ => Err(Error::Unwritable("an object has another type".to_owned())),
        }
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        match self {
            Self::Images { caption, size: [width, height], format, uri } => vec![
                Arc::new(caption.finish()),
                Arc::new(width.finish()),
                Arc::new(height.finish()),
                Arc::new(format.finish()),
                Arc::new(uri.finish()),
            ],
            Self::Audios { caption, rate, format, uri } => vec![
                Arc::new(caption.finish()),
                Arc::new(rate.finish()),
                Arc::new(format.finish()),
                Arc::new(uri.finish()),
            ],
            Self::Texts(texts) | Self::Figures(texts) => vec![Arc::new(texts.finish())],
            Self::Htmls { caption, uri } => vec![Arc::new(caption.finish()), Arc::new(uri.finish())],
            Self::PointClouds { caption, point_count, format, uri } => vec![
                Arc::new(caption.finish()),
                Arc::new(point_count.finish()),
                Arc::new(format.finish()),
                Arc::new(uri.finish()),
            ],
            Self::Distributions { bounds: [low, high], weights } => {
                vec![Arc::new(low.finish()), Arc::new(high.finish()), Arc::new(weights.finish())]
            }
        }
    }
}

fn float_list(floats: &[f64]) -> String {
    let mut json = String::from("[");
    for (at, float) in floats.iter().enumerate() {
        json.push_str(if at > 0 { "," } else { "" });
        write_float(&mut json, *float, JsonStyle::CANONICAL);
    }
    json.push(']');
    json
}

impl ObjectRows {
    pub(super) fn new(series_type: SeriesType) -> Self {
        let content = ContentColumns::new(series_type);
        let mut fields = RowColumns::fields();
        fields.push(Field::new("index", DataType::UInt32, false));
        fields.extend(content.fields());
        Self {
            schema: Arc::new(Schema::new(fields)),
            run: CurrentRun::default(),
            pending: VecDeque::new(),
            too_large: None,
            columns: PositionColumns::default(),
            content,
            text_bytes: 0,
        }
    }

    fn add_step(&mut self, series: &Arc<SeriesTexts>, step: Step) {
        let Step { step, epoch, time_us, objects, object_count } = step;
        if objects.len() < object_count as usize {
            self.too_large = Some(step);
        }
        for object in objects {
            self.pending.push_back(ObjectRow { series: series.clone(), step, epoch, time_us, object });
        }
    }

    fn push(&mut self, row: ObjectRow) -> Result<(), RowsError> {
        let PositionColumns { rows, indexes } = &mut self.columns;
        rows.append_series(&row.series, 1)?;
        rows.steps.push(row.step);
        rows.epochs.push(row.epoch);
        rows.times_us.push(row.time_us);
        indexes.push(row.object.index);
        self.text_bytes += self.content.push(row.object.kind).map_err(RowsError::Failed)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch, RowsError> {
        self.text_bytes = 0;
        let PositionColumns { rows, indexes } = std::mem::take(&mut self.columns);
        let mut arrays = rows.finish();
        arrays.push(Arc::new(UInt32Array::from(indexes)));
        arrays.extend(self.content.finish());
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

impl TableRows for ObjectRows {
    type Message = ObjectsResponse;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn add(&mut self, message: ObjectsResponse) -> SearchStatus {
        for found in message.runs {
            self.run.update(found.run);
            for sequence in found.sequences {
                let series = self.run.series(sequence.name, &sequence.context);
                for step in sequence.steps {
                    self.add_step(&series, step);
                }
            }
        }
        SearchStatus { progress: message.progress, warnings: message.warnings, done: message.done }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        if let Some(step) = self.too_large {
            let reason = format!("the objects of step {step} are too large for an export");
            return Err(RowsError::Failed(Error::Unwritable(reason)));
        }
        while let Some(row) = self.pending.pop_front() {
            self.push(row)?;
            if self.columns.rows.steps.len() == BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES {
                return Ok(Some(self.finish()?));
            }
        }
        Ok(None)
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        if self.columns.rows.steps.is_empty() { Ok(None) } else { Ok(Some(self.finish()?)) }
    }
}
