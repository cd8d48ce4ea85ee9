//! Histograms, whose bins may differ in width, as distributions, whose bins have the same width.

use matyan_value::{Map, Value};

use crate::messages::Histogram;

/// Bins of a distribution that is made from bins of several widths.
const LEAST_BINS: usize = 64;
const MOST_BINS: usize = 512;

/// Bins of a histogram that are kept unchanged.
const MAX_EQUAL_BINS: usize = 4_096;

/// Difference of the widths of two bins that count as equal, as a part of the width.
const TOLERANCE: f64 = 1e-6;

/// A bin of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bin {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) weight: f64,
}

/// The bins of a histogram, without empty bins at its ends; none if it is empty or contradicts itself.
pub(crate) fn bins(histogram: &Histogram) -> Vec<Bin> {
    let Histogram { min, max, limits, weights } = histogram;
    let lows = std::iter::once(min).chain(limits);
    let mut bins: Vec<Bin> = lows
        .zip(limits)
        .zip(weights)
        .filter(|((low, _), weight)| **weight != 0.0 || *low < max)
        .map(|((low, high), weight)| {
            // The outermost bins are open: the smallest and the largest sample close them.
            let high = high.min(*max);
            Bin { low: low.min(high), high, weight: *weight }
        })
        .collect();
    let first = bins.iter().position(|bin| bin.weight != 0.0).unwrap_or(bins.len());
    bins.drain(..first);
    let end = bins.iter().rposition(|bin| bin.weight != 0.0).map_or(0, |last| last + 1);
    bins.truncate(end);
    if let Some(first) = bins.first_mut() {
        first.low = first.low.max(*min).min(first.high);
    }
    bins
}

/// The distribution of bins in ascending order; `None` without bins, or if a number is not finite. The weights of
/// bins of different widths are divided in proportion to the overlap with each new bin, so that their sum is
/// unchanged.
pub(crate) fn distribution(bins: &[Bin]) -> Option<Value> {
    let low = bins.first()?.low;
    let high = bins.last()?.high;
    let is_finite =
        bins.iter().all(|bin| bin.low.is_finite() && bin.high.is_finite() && bin.weight.is_finite());
    if !is_finite || !(high - low).is_finite() {
        return None;
    }
    if high <= low {
        let weight = bins.iter().map(|bin| bin.weight).sum();
        return Some(value(vec![weight], low - 0.5, low + 0.5));
    }
    let width = (high - low) / bins.len() as f64;
    let is_equal = bins.iter().all(|bin| ((bin.high - bin.low) - width).abs() <= TOLERANCE * width);
    if is_equal && bins.len() <= MAX_EQUAL_BINS {
        return Some(value(bins.iter().map(|bin| bin.weight).collect(), low, high));
    }
    Some(value(spread(bins, low, high), low, high))
}

/// The weights of new bins of equal width.
fn spread(bins: &[Bin], low: f64, high: f64) -> Vec<f64> {
    let count = bins.len().clamp(LEAST_BINS, MOST_BINS);
    let width = (high - low) / count as f64;
    // The conversion saturates.
    let place = |number: f64| (((number - low) / width) as usize).min(count - 1);
    let mut weights = vec![0.0; count];
    for bin in bins {
        let first = place(bin.low);
        if bin.high <= bin.low {
            weights[first] += bin.weight;
            continue;
        }
        for (at, weight) in weights.iter_mut().enumerate().take(place(bin.high) + 1).skip(first) {
            let end = if at == count - 1 { high } else { low + (at + 1) as f64 * width };
            let overlap = bin.high.min(end) - bin.low.max(low + at as f64 * width);
            *weight += bin.weight * overlap.max(0.0) / (bin.high - bin.low);
        }
    }
    weights
}

fn value(weights: Vec<f64>, low: f64, high: f64) -> Value {
    let count = i64::try_from(weights.len()).unwrap_or(i64::MAX);
    let numbers = |numbers: Vec<f64>| Value::List(numbers.into_iter().map(Value::Float).collect());
    Value::Map(Map::from([
        ("bin_count".to_owned(), Value::Integer(count)),
        ("data".to_owned(), numbers(weights)),
        ("range".to_owned(), numbers(vec![low, high])),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(low: f64, high: f64, weight: f64) -> Bin {
        Bin { low, high, weight }
    }

    fn weights(value: &Value) -> Vec<f64> {
        let Some(Value::List(weights)) = value.as_map().and_then(|map| map.get("data")) else {
            panic!("{value:?}")
        };
        weights
            .iter()
            .map(|weight| if let Value::Float(weight) = weight { *weight } else { f64::NAN })
            .collect()
    }

    #[test]
    fn bins_of_equal_width_stay() {
        let found = distribution(&[bin(0.0, 1.0, 2.0), bin(1.0, 2.0, 3.0)]).unwrap();
        assert_eq!(found, value(vec![2.0, 3.0], 0.0, 2.0));
    }

    #[test]
    fn other_bins_are_divided_and_keep_their_sum() {
        let found = distribution(&[bin(-1.0, 0.0, 4.0), bin(0.0, 9.0, 6.0), bin(9.0, 9.0, 1.0)]).unwrap();
        let weights = weights(&found);
        assert_eq!(weights.len(), LEAST_BINS);
        assert!((weights.iter().sum::<f64>() - 11.0).abs() < 1e-9, "{weights:?}");
        assert!(weights[0] > weights[20], "{weights:?}");
    }

    #[test]
    fn samples_close_the_outermost_bins() {
        let histogram = Histogram {
            min: -0.5,
            max: 2.5,
            limits: vec![-10.0, 0.0, 1.0, f64::MAX],
            weights: vec![0.0, 1.0, 0.0, 3.0],
        };
        let expected = [bin(-0.5, 0.0, 1.0), bin(0.0, 1.0, 0.0), bin(1.0, 2.5, 3.0)];
        assert_eq!(bins(&histogram), expected);
        let empty = Histogram { limits: vec![f64::MAX], weights: vec![0.0], ..Histogram::default() };
        assert!(bins(&empty).is_empty());
    }

    #[test]
    fn one_value_is_a_bin_around_it() {
        assert_eq!(distribution(&[bin(3.0, 3.0, 5.0)]), Some(value(vec![5.0], 2.5, 3.5)));
        assert_eq!(distribution(&[]), None);
        assert_eq!(distribution(&[bin(f64::NAN, 1.0, 1.0)]), None);
    }
}
