//! Files of tables that data tools read: Arrow IPC streams, Parquet, and CSV. Rows come in record
//! batches, and bytes are taken while the file grows, so that a file of any size needs memory for
//! little more than a batch, or a row group of Parquet.

mod csv;
mod table_writer;

pub use table_writer::{Error, TableFormat, TableWriter};
