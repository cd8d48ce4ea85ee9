//! The table of limits, and estimates for goals that were not reached, which say that they are estimates.

use super::{
    growth::{Growth, Reached},
    values::Sustained,
    views::Slowest,
};
use crate::scale::{count, significant};

/// The goal for the 99th percentile of charts and pages, in milliseconds.
const GOAL_MILLISECONDS: f64 = 100.0;

/// Values that W&B recommends to log in a minute, and the goal.
const RECOMMENDED_VALUES: u64 = 100_000;
const GOAL_VALUES: u64 = 1_000_000_000;

pub(super) fn table(growths: &[Growth], sustained: &Sustained) -> String {
    let [charts, pages] =
        ["charts", "pages"].map(|views| format!("{views}, p99, ms (goal {GOAL_MILLISECONDS})"));
    let titles = format!("| limit | W&B recommends | goal | reached here | {charts} | {pages} |");
    let mut lines = vec![titles, "|---|---:|---:|---:|---:|---:|".to_owned()];
    for growth in growths {
        let reached = growth.reached.last();
        lines.push(row(
            growth.name,
            [growth.recommended, growth.goal],
            reached.map_or_else(|| "nothing".to_owned(), |reached| count(reached.size)),
            reached.and_then(|reached| reached.chart),
            reached.and_then(|reached| reached.page),
        ));
    }
    lines.push(row(
        "values a minute",
        [RECOMMENDED_VALUES, GOAL_VALUES],
        count(sustained.values_a_minute() as u64),
        sustained.times.slowest_chart(),
        sustained.times.slowest_page(),
    ));
    lines.join("\n")
}

fn row(
    name: &str,
    [recommended, goal]: [u64; 2],
    reached: String,
    chart: Option<Slowest>,
    page: Option<Slowest>,
) -> String {
    let [chart, page] = [chart, page].map(figure);
    format!("| {name} | {} | {} | {reached} | {chart} | {page} |", count(recommended), count(goal))
}

/// The slowest of some views, and whether the goal is missed.
fn figure(slowest: Option<Slowest>) -> String {
    let Some(Slowest { view, p99 }) = slowest else { return "not measured".to_owned() };
    let missed = if p99 > GOAL_MILLISECONDS { ", MISSED" } else { "" };
    format!("{} ({view}{missed})", significant(p99))
}

/// A text about each goal that was not reached.
pub(super) fn estimates(growths: &[Growth], sustained: &Sustained) -> Vec<String> {
    let growths = growths.iter().filter_map(estimate);
    growths.chain(values_estimate(sustained)).chain(sustained.times.refusal()).collect()
}

fn estimate(growth: &Growth) -> Option<String> {
    let Growth { name, goal, .. } = growth;
    let ended = growth.ended.as_deref();
    let Some(last) = growth.reached.last() else {
        return Some(format!("{name}: {}.", ended.unwrap_or("not measured")));
    };
    let Reached { size, .. } = last;
    if size >= goal {
        return ended.map(|ended| format!("{name}: ended after {}: {ended}.", count(*size)));
    }
    let factor = *goal as f64 / *size as f64;
    let gigabytes = last.bytes as f64 * factor / 1e9;
    let minutes = last.seconds * factor / 60.0;
    let mut text = format!(
        "{name}: ended at {}: {}. An estimate for {}, not a measurement: {} GB and {} min to write, if everything \
         costs what it cost here",
        count(*size),
        ended.unwrap_or("the size that was asked for"),
        count(*goal),
        significant(gigabytes),
        significant(minutes),
    );
    if let [.., before, last] = &*growth.reached {
        let grown = |of: fn(&Reached) -> Option<Slowest>| later(of(before)?.p99, of(last)?.p99, factor);
        let chart = grown(|reached| reached.chart);
        let page = grown(|reached| reached.page);
        if let (Some(chart), Some(page)) = (chart, page) {
            let both = format!(
                "; charts {} ms and pages {} ms, if each further doubling changes them like the last one",
                significant(chart),
                significant(page)
            );
            text.push_str(&both);
        }
    }
    text.push('.');
    Some(text)
}

/// The time of a view after growth by a factor, from its times before and after a doubling. It is not estimated to
/// become shorter.
fn later(before: f64, after: f64, factor: f64) -> Option<f64> {
    let doubling = f64::max(1.0, after / before);
    Some(after * doubling.powf(factor.log2())).filter(|time| time.is_finite())
}

fn values_estimate(sustained: &Sustained) -> Option<String> {
    let rate = sustained.values_a_minute();
    let ended = sustained.ended.as_ref().map(|ended| format!(" It ended early: {ended}."));
    let measured = format!(
        "values a minute: measured over {:.0} s, until all of them were readable; the server kept {:.1} cores busy.{}",
        sustained.seconds,
        sustained.cores,
        ended.unwrap_or_default()
    );
    if rate >= GOAL_VALUES as f64 || sustained.values == 0 {
        return Some(measured);
    }
    let cores = sustained.cores * GOAL_VALUES as f64 / rate;
    let estimate = format!(
        " An estimate for {}, not a measurement: {} busy cores, if each takes as many values as here; \
         `make bench ARGS=--cores` prints whether it does.",
        count(GOAL_VALUES),
        significant(cores)
    );
    Some(measured + &estimate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::content::Dimension;

    fn slowest(p99: f64) -> Option<Slowest> {
        Some(Slowest { view: "a view", p99 })
    }

    fn growth(sizes: &[u64], ended: Option<&str>) -> Growth {
        let reached = sizes.iter().zip(1_u32..).map(|(size, at)| Reached {
            size: *size,
            seconds: 60.0 * f64::from(at),
            bytes: 1_000_000_000 * u64::from(at),
            chart: slowest(5.0),
            page: slowest(10.0 * f64::from(at)),
        });
        Growth {
            name: "runs",
            dimension: Dimension::Runs,
            recommended: 10_000,
            goal: 1_000,
            target: 1_000,
            seconds: 0.0,
            bytes: 0,
            reached: reached.collect(),
            ended: ended.map(str::to_owned),
        }
    }

    #[test]
    fn an_estimate_continues_the_last_doubling() {
        assert_eq!(later(10.0, 20.0, 4.0), Some(80.0));
        assert_eq!(later(20.0, 10.0, 4.0), Some(10.0));
        assert_eq!(later(0.0, 10.0, 4.0), None);
        let text = estimate(&growth(&[125, 250], Some("the disk"))).unwrap();
        assert!(text.starts_with("runs: ended at 250: the disk. An estimate for 1,000, not"), "{text}");
        assert!(text.contains("8.00 GB and 8.00 min"), "{text}");
        assert!(text.contains("charts 5.00 ms and pages 80.0 ms"), "{text}");
        assert_eq!(estimate(&growth(&[500, 1_000], None)), None);
        assert_eq!(estimate(&growth(&[], Some("refused"))).unwrap(), "runs: refused.");
    }

    #[test]
    fn a_row_says_which_view_is_slow() {
        let text = row("runs", [10_000, 1_000_000], count(250_000), slowest(5.0), slowest(250.0));
        let cells = "| runs | 10,000 | 1,000,000 | 250,000 | 5.00 (a view) | 250 (a view, MISSED) |";
        assert_eq!(text, cells);
        assert!(row("runs", [1, 2], count(1), None, None).ends_with("| not measured | not measured |"));
    }
}
