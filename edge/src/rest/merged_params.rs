//! The JSON of merged params and series names, written as their messages arrive: they may take 64 MiB, and
//! a browser may read them slowly, or not at all.

use matyan_proto::common::v1::SeriesType;
use matyan_proto::project::v1::{ParamsResponse, TypeNames};
use matyan_value::json::JsonStyle;

use super::cbor_pieces::CborPieces;
use super::json_list::JsonItems;
use super::shared::type_name;
use super::values::{self, StoredValueError};
use crate::error::ApiResult;

/// The text `{"params":{…},"metric":{"loss":[{…},…]},…}` under construction. The messages have the params
/// first, and then the names type by type, and name by name.
pub(super) struct MergedParamsWriter {
    params: Params,
    /// Requested types without any names so far.
    missing: Vec<SeriesType>,
    open: Option<OpenType>,
    /// Whether the object has a member.
    needs_comma: bool,
}

enum Params {
    NotRequested,
    Requested,
    Open(CborPieces),
    Written,
}

/// The type whose names are being written.
struct OpenType {
    of: SeriesType,
    /// The name whose contexts are being written.
    name: Option<String>,
}

impl MergedParamsWriter {
    pub(super) fn new(with_params: bool, types: Vec<SeriesType>) -> Self {
        let params = if with_params { Params::Requested } else { Params::NotRequested };
        MergedParamsWriter { params, missing: types, open: None, needs_comma: false }
    }

    /// Writes a message, or the end.
    pub(super) fn write(&mut self, message: Option<ParamsResponse>, out: &mut JsonItems) -> ApiResult<()> {
        let Some(ParamsResponse { params, types, .. }) = message else { return self.finish(out) };
        if !params.is_empty() {
            self.write_params(&params, out);
        }
        for of_type in types {
            self.write_names(of_type, out)?;
        }
        Ok(())
    }

    fn write_params(&mut self, piece: &[u8], out: &mut JsonItems) {
        if matches!(self.params, Params::Requested) {
            self.open_member("params", out);
            self.params = Params::Open(CborPieces::new(JsonStyle::STRICT));
        }
        if let Params::Open(params) = &mut self.params {
            let mut text = String::new();
            params.write(piece, &mut text);
            out.text(&text);
        }
    }

    fn finish_params(&mut self, out: &mut JsonItems) -> ApiResult<()> {
        match std::mem::replace(&mut self.params, Params::Written) {
            Params::NotRequested | Params::Written => {}
            Params::Requested => {
                self.open_member("params", out);
                out.text("{}");
            }
            Params::Open(params) => params.finish().map_err(StoredValueError::from)?,
        }
        Ok(())
    }

    fn write_names(&mut self, names: TypeNames, out: &mut JsonItems) -> ApiResult<()> {
        // A type without names so far may get some, or is written at the end.
        if names.names.is_empty() {
            return Ok(());
        }
        // A type that was not requested is not part of the answer.
        let Ok(of) = SeriesType::try_from(names.r#type) else { return Ok(()) };
        if self.open.as_ref().is_none_or(|open| open.of != of) {
            let Some(index) = self.missing.iter().position(|missing| *missing == of) else { return Ok(()) };
            // The types come in the order in which they were requested, so earlier ones have no names.
            let empty: Vec<SeriesType> =
                self.missing.drain(..=index).filter(|earlier| *earlier != of).collect();
            self.finish_params(out)?;
            self.close_type(out);
            self.write_empty(empty, out);
            self.open_member(type_name(of), out);
            out.text("{");
            self.open = Some(OpenType { of, name: None });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        for name in names.names {
            // The contexts of a name may be split over several messages.
            let continues = open.name.as_ref() == Some(&name.name);
            if !continues {
                out.text(if open.name.is_some() { "]," } else { "" });
                out.push(&name.name);
                out.text(":[");
                open.name = Some(name.name);
            }
            for (index, context) in name.contexts.iter().enumerate() {
                out.text(if continues || index > 0 { "," } else { "" });
                out.text(values::context_json(context, JsonStyle::STRICT)?.get());
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut JsonItems) -> ApiResult<()> {
        self.finish_params(out)?;
        self.close_type(out);
        let empty = std::mem::take(&mut self.missing);
        self.write_empty(empty, out);
        out.text(if self.needs_comma { "}" } else { "{}" });
        Ok(())
    }

    fn write_empty(&mut self, types: Vec<SeriesType>, out: &mut JsonItems) {
        for of in types {
            self.open_member(type_name(of), out);
            out.text("{}");
        }
    }

    fn close_type(&mut self, out: &mut JsonItems) {
        if let Some(open) = self.open.take() {
            out.text(if open.name.is_some() { "]}" } else { "}" });
        }
    }

    fn open_member(&mut self, name: &str, out: &mut JsonItems) {
        out.text(if std::mem::replace(&mut self.needs_comma, true) { "," } else { "{" });
        out.push(&name);
        out.text(":");
    }
}
