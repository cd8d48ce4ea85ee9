//! Metric series of a run: their numbers, names, contexts, and headers. Their points are in
//! `series`.

use matyan_store::{Batch, Range, Result, Scan, Snapshot};

use crate::{
    ids::{Project, RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    rows,
    series::MetricHeader,
};

/// Creates a metric series: its row by name and context, its index row, and its header.
pub fn metric_series_create(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    header: &MetricHeader,
    digest: &[u8; 16],
) {
    let by_name = keys::series_by_name(project, number, SeriesKind::Metric, &header.name, digest);
    batch.set(by_name, rows::encode(&series.0));
    batch.set(keys::index_series_name(project, SeriesKind::Metric, &header.name, number), Vec::new());
    metric_header_put(batch, project, number, series, header);
}

pub fn metric_header_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    header: &MetricHeader,
) {
    batch.set(keys::series_header(project, number, series), header.encode());
}

pub async fn metric_series_find(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    name: &str,
    digest: &[u8; 16],
) -> Result<Option<SeriesNumber>> {
    let by_name = keys::series_by_name(project, number, SeriesKind::Metric, name, digest);
    Ok(rows::get(snapshot, &by_name).await?.map(SeriesNumber))
}

/// The series with this name and context digest in each of several runs, in the given order.
pub async fn metric_series_find_in(
    snapshot: &dyn Snapshot,
    project: Project,
    numbers: &[RunNumber],
    name: &str,
    digest: &[u8; 16],
) -> Result<Vec<Option<SeriesNumber>>> {
    let keys: Vec<_> = numbers
        .iter()
        .map(|number| keys::series_by_name(project, *number, SeriesKind::Metric, name, digest))
        .collect();
    let values = snapshot.get_many(&keys).await?;
    let decoded = keys.iter().zip(values);
    decoded
        .map(|(key, value)| value.map(|value| Ok(SeriesNumber(rows::decode(key, &value)?))).transpose())
        .collect()
}

/// The series with these names and context digests, in the given order.
pub async fn metric_series_find_many(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    names: &[(String, [u8; 16])],
) -> Result<Vec<Option<SeriesNumber>>> {
    let keys: Vec<_> = names
        .iter()
        .map(|(name, digest)| keys::series_by_name(project, number, SeriesKind::Metric, name, digest))
        .collect();
    let values = snapshot.get_many(&keys).await?;
    keys.iter()
        .zip(values)
        .map(|(key, value)| value.map(|value| Ok(SeriesNumber(rows::decode(key, &value)?))).transpose())
        .collect()
}

/// The series of one kind with this name, in all contexts.
pub async fn series_named(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    kind: SeriesKind,
    name: &str,
) -> Result<Vec<SeriesNumber>> {
    let rows = rows::scan_all(snapshot, &keys::series_of_name(project, number, kind, name)).await?;
    rows.iter().map(|(key, value)| Ok(SeriesNumber(rows::decode(key, value)?))).collect()
}

/// A series with its name and the digest of its context.
pub type NamedSeries = (String, [u8; 16], SeriesNumber);

/// About one megabyte of the metric series of a run by name, starting at `range`
/// (`keys::series_names` for the first page), and the range of the rest.
pub async fn metric_names_page(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    range: &Range,
) -> Result<(Vec<NamedSeries>, Option<Range>)> {
    let all = keys::series_names(project, number, SeriesKind::Metric);
    let page = snapshot.scan(range, Scan::default()).await?;
    let series = page.rows.iter().map(|(key, value)| {
        let (name, digest) = keys::decode_series_context(&all, key)?;
        Ok((name, digest, SeriesNumber(rows::decode(key, value)?)))
    });
    Ok((series.collect::<Result<_>>()?, page.rest(range)))
}

/// The headers of several series, in the given order.
pub async fn metric_headers_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: &[SeriesNumber],
) -> Result<Vec<Option<MetricHeader>>> {
    let numbers: Vec<u32> = series.iter().map(|series| series.0).collect();
    let all = keys::series_headers(project, number);
    let key = |series| keys::series_header(project, number, SeriesNumber(series));
    let values = rows::get_numbered(snapshot, &numbers, &all.start, key).await?;
    values.into_iter().map(|value| value.map(|value| Ok(MetricHeader::decode(&value)?)).transpose()).collect()
}

pub async fn metric_header_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
) -> Result<Option<MetricHeader>> {
    let value = snapshot.get(&keys::series_header(project, number, series)).await?;
    value.map(|value| Ok(MetricHeader::decode(&value)?)).transpose()
}

/// All metric series of a run, by number.
pub async fn metric_series_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Vec<(SeriesNumber, MetricHeader)>> {
    let range = keys::series_headers(project, number);
    rows::decode_all(snapshot, &range, |key, value| {
        let (series,) = keys::tail(&range.start, key)?;
        Ok((SeriesNumber(series), MetricHeader::decode(value)?))
    })
    .await
}

#[cfg(test)]
mod tests {
    use matyan_store::Store as _;

    use super::*;
    use crate::testing::TestStore;

    const P: Project = Project(0);

    fn header(number: u32) -> MetricHeader {
        MetricHeader { name: format!("m{number}"), context: String::new(), dtype: "float".to_owned() }
    }

    /// Headers of many neighbors are read by a scan, and others each by its key.
    #[tokio::test]
    async fn headers_are_the_same_however_many_are_read_together() {
        let store = TestStore::open().await;
        let run = RunNumber(7);
        // Every fifth series does not exist.
        let exists = |number: u32| number < 300 && number % 5 != 2;
        let write = store.run(async |transaction| {
            for number in (0..300).filter(|number| exists(*number)) {
                metric_header_put(transaction.batch(), P, run, SeriesNumber(number), &header(number));
            }
            Ok::<_, matyan_store::Error>(())
        });
        write.await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let neighbors: Vec<u32> = (3..40).rev().chain([20, 102]).collect();
        let scattered: Vec<u32> = (0..9).map(|at| at * 33).chain([u32::MAX]).collect();
        let lists: [&[u32]; 4] = [&[], &[12, 1], &neighbors, &scattered];
        for numbers in lists {
            let series: Vec<_> = numbers.iter().copied().map(SeriesNumber).collect();
            let headers = metric_headers_get(&*snapshot, P, run, &series).await.unwrap();
            let expected: Vec<_> =
                numbers.iter().map(|number| exists(*number).then(|| header(*number))).collect();
            assert_eq!(headers, expected, "{numbers:?}");
        }
    }
}
