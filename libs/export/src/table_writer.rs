//! Writes a table as a file in one of the formats.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
};

use crate::csv::{CsvWriter, Formulas};

/// Size of a row group of Parquet. One row group is in memory. Readers handle a group at a time.
const ROW_GROUP_BYTES: usize = 4 << 20;

/// The least memory of a row group for each column, so that a table of many columns does not have
/// many groups: each takes some bytes for each column, which are written at the end.
const ROW_GROUP_COLUMN_BYTES: usize = 16 << 10;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// The streaming format of Arrow IPC.
    Arrow,
    /// Apache Parquet.
    Parquet,
    /// CSV with a header, whose texts are never formulas in spreadsheets.
    Csv,
    /// CSV with a header, and with the texts as they are.
    RawCsv,
}

/// The reason why a table could not be written. Both reasons are errors of the program, because
/// bytes go to memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the Arrow format, or of its batches.
    #[error("failed to write a batch of rows")]
    Arrow(#[from] ArrowError),
    /// An error of the Parquet format.
    #[error("failed to write rows as Parquet")]
    Parquet(#[from] ParquetError),
}

/// A file that is being written.
pub struct TableWriter(Writer);

enum Writer {
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet { writer: Box<ArrowWriter<Vec<u8>>>, row_group_bytes: usize },
    Csv(CsvWriter),
}

impl TableWriter {
    /// Starts a file of a table with this schema.
    pub fn new(format: TableFormat, schema: SchemaRef) -> Result<Self, Error> {
        Ok(Self(match format {
            TableFormat::Arrow => Writer::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema)?)),
            TableFormat::Parquet => {
                let row_group_bytes = ROW_GROUP_BYTES.max(schema.fields().len() * ROW_GROUP_COLUMN_BYTES);
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    // Statistics of pages would be in memory until the end.
                    .set_statistics_enabled(EnabledStatistics::Chunk)
                    .set_offset_index_disabled(true)
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
                Writer::Parquet { writer: Box::new(writer), row_group_bytes }
            }
            TableFormat::Csv => Writer::Csv(CsvWriter::new(&schema, Formulas::Defused)),
            TableFormat::RawCsv => Writer::Csv(CsvWriter::new(&schema, Formulas::Kept)),
        }))
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        match &mut self.0 {
            Writer::Arrow(writer) => writer.write(rows)?,
            Writer::Parquet { writer, row_group_bytes } => {
                writer.write(rows)?;
                if writer.memory_size() >= *row_group_bytes {
                    writer.flush()?;
                }
            }
            Writer::Csv(writer) => writer.write(rows)?,
        }
        Ok(())
    }

    /// Writes the end of the file.
    pub fn finish(&mut self) -> Result<(), Error> {
        match &mut self.0 {
            Writer::Arrow(writer) => writer.finish()?,
            Writer::Parquet { writer, .. } => {
                writer.finish()?;
            }
            Writer::Csv(_) => {}
        }
        Ok(())
    }

    /// Takes the bytes that were written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.0 {
            Writer::Arrow(writer) => writer.get_mut(),
            Writer::Parquet { writer, .. } => writer.inner_mut(),
            Writer::Csv(writer) => writer.written_mut(),
        })
    }
}
