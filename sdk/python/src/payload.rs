//! Columns of numbers, and the payloads of tracked objects.

use matyan_sdk::{Content, Payload, Samples};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::errors::{upload, wrong_type};

/// Returns the content of the file that is stored for a payload.
#[pyfunction]
pub(crate) fn encode_media<'py>(py: Python<'py>, media: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let media = Media::new(media)?;
    let payload = media.payload();
    let bytes = py.detach(|| payload.encode()).map_err(upload)?;
    Ok(PyBytes::new(py, &bytes))
}

/// Returns a column of doubles: bytes in the order of the machine, or a sequence of numbers.
pub(crate) fn doubles(argument: &str, column: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    match column.cast::<PyBytes>() {
        Ok(bytes) => elements(argument, bytes.as_bytes(), f64::from_ne_bytes),
        Err(_) => column.extract().map_err(|_| wrong_type(argument, "numbers", column)),
    }
}

/// Returns a column of integers, in the same forms.
pub(crate) fn integers(argument: &str, column: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    match column.cast::<PyBytes>() {
        Ok(bytes) => elements(argument, bytes.as_bytes(), i64::from_ne_bytes),
        Err(_) => column.extract().map_err(|_| wrong_type(argument, "integers", column)),
    }
}

fn elements<T>(argument: &str, bytes: &[u8], element: fn([u8; 8]) -> T) -> PyResult<Vec<T>> {
    let (elements, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(format!("`{argument}`: expected elements of 8 bytes")));
    }
    Ok(elements.iter().map(|bytes| element(*bytes)).collect())
}

/// The payload of an image or audio, which is encoded when it is stored.
pub(crate) enum Media<'py> {
    /// A file of the named format.
    Encoded { data: Bound<'py, PyBytes>, format: String },
    /// Pixels of 8 bits for each channel.
    Pixels { data: Bound<'py, PyBytes>, width: u32, height: u32, channels: u8 },
    /// Interleaved samples of 16 bits.
    Samples { samples: Vec<i16>, channels: u16, rate: u32 },
}

impl<'py> Media<'py> {
    /// Reads an instance of a class of `matyan_client.objects._media`.
    pub(crate) fn new(media: &Bound<'py, PyAny>) -> PyResult<Self> {
        let data: Bound<'py, PyBytes> = media.getattr("data")?.cast_into()?;
        match &*media.get_type().name()?.to_string_lossy() {
            "Encoded" => Ok(Self::Encoded { data, format: media.getattr("format")?.extract()? }),
            "Pixels" => Ok(Self::Pixels {
                data,
                width: media.getattr("width")?.extract()?,
                height: media.getattr("height")?.extract()?,
                channels: media.getattr("channels")?.extract()?,
            }),
            "Samples" => {
                let (samples, _) = data.as_bytes().as_chunks::<2>();
                Ok(Self::Samples {
                    samples: samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect(),
                    channels: media.getattr("channels")?.extract()?,
                    rate: media.getattr("rate")?.extract()?,
                })
            }
            _ => Err(wrong_type("media", "a payload", media)),
        }
    }

    /// The payload as the core takes it.
    pub(crate) fn payload(&self) -> Payload<'_> {
        match self {
            Self::Encoded { data, format } => {
                Payload::Encoded { content: Content::Bytes(data.as_bytes()), format }
            }
            Self::Pixels { data, width, height, channels } => Payload::Pixels {
                bytes: data.as_bytes(),
                width: *width,
                height: *height,
                channels: *channels,
            },
            Self::Samples { samples, channels, rate } => {
                Payload::Audio { samples: Samples::I16(samples), rate: *rate, channels: *channels }
            }
        }
    }
}
