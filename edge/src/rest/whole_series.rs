//! Every point of some metrics of a run as JSON, written as it is read: a series may have tens of millions.
//! A JSON list of steps stands before that of values, so that the columns are asked for one after the other.

use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use matyan_proto::common::v1::{SeriesKey, StepRange};
use matyan_proto::series::v1::{PointColumns, PointsRequest, PointsResponse, RunSelection, SeriesPoints};
use tonic::{Status, Streaming};

use super::json_list::{self, Items};
use super::streamed::broken;
use super::values::{self, Style};
use crate::services::Services;

/// The answer for a run that is there; series that it does not have are left out.
pub(super) fn answer(
    services: Arc<Services>,
    run_id: String,
    keys: Vec<SeriesKey>,
    steps: Option<StepRange>,
) -> Response {
    let mut items = Items::default();
    items.text("[");
    let whole =
        Whole { services, run_id, keys: keys.into_iter(), steps, items, open: None, has_ended: false };
    json_list::json(Body::from_stream(stream::try_unfold(whole, Whole::chunk)))
}

struct Whole {
    services: Arc<Services>,
    run_id: String,
    keys: IntoIter<SeriesKey>,
    steps: Option<StepRange>,
    items: Items,
    open: Option<Open>,
    has_ended: bool,
}

/// A series that is being written.
struct Open {
    messages: Streaming<PointsResponse>,
    /// Its steps are written, and its values are to come.
    has_steps: bool,
}

impl Whole {
    /// The next piece of the body.
    async fn chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.has_ended {
            return Ok(None);
        }
        loop {
            match &mut self.open {
                Some(open) => match open.messages.message().await.map_err(broken)? {
                    Some(message) => {
                        let points = message.points.unwrap_or_default();
                        write(&mut self.items, &mut open.has_steps, &points)?;
                        return Ok(Some((self.items.take(), self)));
                    }
                    None => self.open = None,
                },
                None => match self.keys.next() {
                    Some(key) => {
                        let messages = self.ask(key).await.map_err(broken)?;
                        self.open = Some(Open { messages, has_steps: false });
                    }
                    None => {
                        self.items.text("]");
                        self.has_ended = true;
                        return Ok(Some((self.items.take(), self)));
                    }
                },
            }
        }
    }

    async fn ask(&self, key: SeriesKey) -> Result<Streaming<PointsResponse>, Status> {
        let run = RunSelection { run_id: self.run_id.clone(), keys: vec![key], ..Default::default() };
        let columns = Some(PointColumns { values: true, ..Default::default() });
        let request = PointsRequest { run: Some(run), steps: self.steps, columns, by_column: true };
        Ok(self.services.backend().series.clone().points(request).await?.into_inner())
    }
}

/// One piece of a column: of the steps first, then of the values.
fn write(items: &mut Items, has_steps: &mut bool, points: &SeriesPoints) -> io::Result<()> {
    if let Some(info) = &points.info {
        let context = values::context_json(&info.context, Style::default()).map_err(io::Error::other)?;
        let name = serde_json::to_string(&info.name)?;
        items.comma();
        items.text(&format!("{{\"name\":{name},\"context\":{},\"iters\":[", context.get()));
    }
    match has_steps {
        false => points.steps.iter().for_each(|step| items.push(step)),
        true => points.values.iter().for_each(|value| items.push(value)),
    }
    match (points.more, *has_steps) {
        (true, _) => {}
        (false, false) => {
            items.text("],\"values\":[");
            *has_steps = true;
        }
        (false, true) => items.item_end("]}"),
    }
    Ok(())
}
