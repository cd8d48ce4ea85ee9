//! The terminal lines and the log records of a copy.

use matyan_proto::{
    common::v1::StepRange,
    logs::v1::{
        LinesRequest, LinesResponse, Record, RecordsRequest, RecordsResponse,
        log_service_client::LogServiceClient,
    },
    published::v1::{PageList, PublishedRun},
};
use prost::Message;

use super::{Error, RunCopy, client, file_error, pages::PageFile};

/// Maximum number of entries of a page, and the size in bytes from which no entry is added to it.
const PAGE_ENTRIES: usize = 1_000;
const PAGE_BYTES: usize = 128 * 1024;

/// All steps, instead of only the last steps.
const ALL_STEPS: StepRange = StepRange { start: Some(i64::MIN), stop: None };

pub(super) async fn write(copy: &mut RunCopy<'_>, published: &mut PublishedRun) -> Result<(), Error> {
    let mut service = client!(LogServiceClient, copy.channel.clone());
    let run_id = copy.run_id.to_owned();
    let request = LinesRequest { run_id: run_id.clone(), steps: Some(ALL_STEPS), ..LinesRequest::default() };
    let mut messages = service.lines(request).await?.into_inner();
    let mut log = LogFile::create(copy, "lines.bin", |lines| LinesResponse { lines, last_step: None })?;
    while let Some(message) = messages.message().await? {
        for line in message.lines {
            log.add(copy, line.step, line)?;
        }
    }
    published.lines = Some(log.finish(copy)?);
    let request = RecordsRequest { run_id, steps: Some(ALL_STEPS), ..RecordsRequest::default() };
    let mut messages = service.records(request).await?.into_inner();
    let mut log = LogFile::create(copy, "records.bin", |records| RecordsResponse { records, count: 0 })?;
    while let Some(message) = messages.message().await? {
        published.record_count = message.count;
        for record in message.records {
            log.add(copy, record.step, published_record(record, copy.has_environment))?;
        }
    }
    published.records = Some(log.finish(copy)?);
    Ok(())
}

/// A record of a copy. The path of its source file is a part of the environment.
fn published_record(mut record: Record, has_environment: bool) -> Record {
    if !has_environment {
        record.logger_info.clear();
    }
    record
}

/// The file of a log. `P` is a page of entries `E`.
struct LogFile<E, P> {
    name: &'static str,
    file: PageFile,
    page: fn(Vec<E>) -> P,
    entries: Vec<E>,
    bytes: usize,
    first_step: i64,
    last_step: i64,
}

impl<E: Message, P: Message> LogFile<E, P> {
    fn create(copy: &RunCopy<'_>, name: &'static str, page: fn(Vec<E>) -> P) -> Result<Self, Error> {
        let path = copy.path(name);
        let file = PageFile::create(&path).map_err(file_error(&path))?;
        Ok(Self { name, file, page, entries: Vec::new(), bytes: 0, first_step: 0, last_step: 0 })
    }

    fn add(&mut self, copy: &RunCopy<'_>, step: i64, entry: E) -> Result<(), Error> {
        if self.entries.is_empty() {
            self.first_step = step;
        }
        self.last_step = step;
        self.bytes += entry.encoded_len();
        self.entries.push(entry);
        if self.entries.len() >= PAGE_ENTRIES || self.bytes >= PAGE_BYTES { self.put(copy) } else { Ok(()) }
    }

    fn put(&mut self, copy: &RunCopy<'_>) -> Result<(), Error> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return Ok(());
        }
        let written = self.file.put(&(self.page)(entries), self.first_step, self.last_step);
        written.map_err(file_error(&copy.path(self.name)))
    }

    fn finish(mut self, copy: &mut RunCopy<'_>) -> Result<PageList, Error> {
        self.put(copy)?;
        let list = self.file.list();
        let bytes = self.file.finish().map_err(file_error(&copy.path(self.name)))?;
        copy.file_done(bytes);
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_their_source_files_only_with_the_environment() {
        let record =
            Record { logger_info: vec![1_u8].into(), message: "begun".to_owned(), ..Record::default() };
        assert_eq!(published_record(record.clone(), true), record);
        let expected = Record { logger_info: Default::default(), ..record.clone() };
        assert_eq!(published_record(record, false), expected);
    }
}
