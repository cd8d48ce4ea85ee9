//! Conversion of histograms, whose bins may differ in width, to distributions, whose bins have the same
//! width.

/// Bins of a distribution that is made from bins of several widths.
const LEAST_BINS: usize = 64;
const MOST_BINS: usize = 512;

/// Bins of a histogram that are kept unchanged.
const MAX_EQUAL_BINS: usize = 4_096;

/// Relative difference of the widths of two bins that count as equal.
const TOLERANCE: f64 = 1e-6;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    /// The upper bounds of the bins. The last bound may be the largest float.
    #[prost(double, repeated, tag = "6")]
    pub limits: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub weights: Vec<f64>,
}

/// A bin of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub weight: f64,
}

/// Weights of bins of the same width.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Lower bound of the first bin.
    pub low: f64,
    /// Upper bound of the last bin.
    pub high: f64,
    pub weights: Vec<f64>,
}

impl Histogram {
    /// Returns the bins, without empty bins at the ends; none if the histogram is empty or contradicts itself.
    pub fn bins(&self) -> Vec<Bin> {
        let Self { min, max, limits, weights } = self;
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
}

impl Bin {
    /// Returns the bins of a tensor whose rows are a lower bound, an upper bound and a weight, as the plugin `histograms`
    /// writes them; `None` if the tensor has another shape. A histogram without samples may have any shape.
    pub fn of_rows(sizes: &[i64], numbers: &[f64]) -> Option<Vec<Self>> {
        if sizes.last() != Some(&3) && !numbers.is_empty() {
            return None;
        }
        let (rows, _) = numbers.as_chunks::<3>();
        Some(
            rows.iter().map(|[low, high, weight]| Self { low: *low, high: *high, weight: *weight }).collect(),
        )
    }
}

impl Distribution {
    /// Returns the distribution of bins in ascending order; `None` without bins, or if a number is not finite. The
    /// weights of bins of different widths are divided in proportion to the overlap with each new bin, so that their
    /// sum is unchanged.
    pub fn of_bins(bins: &[Bin]) -> Option<Self> {
        let low = bins.first()?.low;
        let high = bins.last()?.high;
        let is_finite =
            bins.iter().all(|bin| bin.low.is_finite() && bin.high.is_finite() && bin.weight.is_finite());
        if !is_finite || !(high - low).is_finite() {
            return None;
        }
        if high <= low {
            let weight = bins.iter().map(|bin| bin.weight).sum();
            return Some(Self { low: low - 0.5, high: low + 0.5, weights: vec![weight] });
        }
        let width = (high - low) / bins.len() as f64;
        let is_equal = bins.iter().all(|bin| ((bin.high - bin.low) - width).abs() <= TOLERANCE * width);
        let weights = if is_equal && bins.len() <= MAX_EQUAL_BINS {
            bins.iter().map(|bin| bin.weight).collect()
        } else {
            spread(bins, low, high)
        };
        Some(Self { low, high, weights })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(low: f64, high: f64, weight: f64) -> Bin {
        Bin { low, high, weight }
    }

    fn check(bins: &[Bin], low: f64, high: f64, weights: &[f64]) {
        let expected = Distribution { low, high, weights: weights.to_vec() };
        assert_eq!(Distribution::of_bins(bins), Some(expected), "{bins:?}");
    }

    #[test]
    fn bins_of_equal_width_stay() {
        check(&[bin(0.0, 1.0, 2.0), bin(1.0, 2.0, 3.0)], 0.0, 2.0, &[2.0, 3.0]);
    }

    #[test]
    fn other_bins_are_divided_and_keep_their_sum() {
        let bins = [bin(-1.0, 0.0, 4.0), bin(0.0, 9.0, 6.0), bin(9.0, 9.0, 1.0)];
        let Distribution { low, high, weights } = Distribution::of_bins(&bins).unwrap();
        assert_eq!((low, high, weights.len()), (-1.0, 9.0, LEAST_BINS));
        assert!((weights.iter().sum::<f64>() - 11.0).abs() < 1e-9, "{weights:?}");
        assert!(weights[0] > weights[20], "{weights:?}");
    }

    #[test]
    fn the_number_of_bins_is_limited() {
        for (count, kept) in [(MAX_EQUAL_BINS, MAX_EQUAL_BINS), (MAX_EQUAL_BINS + 1, MOST_BINS)] {
            let bins: Vec<_> = (0..count).map(|at| bin(at as f64, (at + 1) as f64, 1.0)).collect();
            let weights = Distribution::of_bins(&bins).unwrap().weights;
            assert_eq!(weights.len(), kept);
            assert!((weights.iter().sum::<f64>() - count as f64).abs() < 1e-6, "{weights:?}");
        }
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
        assert_eq!(histogram.bins(), expected);
        let empty = Histogram { limits: vec![f64::MAX], weights: vec![0.0], ..Histogram::default() };
        assert!(empty.bins().is_empty());
    }

    #[test]
    fn rows_of_three_numbers_are_bins() {
        let numbers = [0.0, 1.0, 5.0, 1.0, 2.0, 6.0];
        assert_eq!(Bin::of_rows(&[2, 3], &numbers), Some(vec![bin(0.0, 1.0, 5.0), bin(1.0, 2.0, 6.0)]));
        assert_eq!(Bin::of_rows(&[3, 2], &numbers), None);
        assert_eq!(Bin::of_rows(&[0], &[]), Some(Vec::new()));
    }

    #[test]
    fn one_value_is_a_bin_around_it() {
        check(&[bin(3.0, 3.0, 5.0)], 2.5, 3.5, &[5.0]);
    }

    #[test]
    fn bins_without_a_finite_range_are_no_distribution() {
        assert_eq!(Distribution::of_bins(&[]), None);
        for bin in [bin(f64::NAN, 1.0, 1.0), bin(0.0, 1.0, f64::INFINITY), bin(f64::MIN, f64::MAX, 1.0)] {
            assert_eq!(Distribution::of_bins(&[bin]), None, "{bin:?}");
        }
    }
}
