//! A dot plot on a terminal. Each character is a Braille pattern of two by four dots. For each
//! range of steps, everything between the lowest and the highest value is drawn, so no peak is
//! lost.

use super::output::number;

/// Width of the labels next to the vertical axis.
const MARGIN: usize = 11;

const DOTS_WIDE: usize = 2;
const DOTS_HIGH: usize = 4;

/// The first character of the Unicode Braille block: no dots.
const NO_DOT: u32 = 0x2800;

/// The bit of each dot in a character, by column and row.
const DOTS: [[u32; DOTS_HIGH]; DOTS_WIDE] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Values over a range of steps. NaN if none of them is finite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) first_step: i64,
    pub(super) last_step: i64,
    pub(super) min: f64,
    pub(super) max: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    /// Size of the canvas in characters.
    columns: usize,
    lines: usize,
}

impl Plot {
    /// A plot that fills the given number of columns and lines of a terminal, axes
    /// included.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { columns: width.saturating_sub(MARGIN + 1).max(1), lines: height.saturating_sub(2).max(1) }
    }

    /// Horizontal resolution in dots.
    pub(super) fn pixels(self) -> u32 {
        u32::try_from(self.columns * DOTS_WIDE).unwrap_or(u32::MAX)
    }

    /// Draws the plot as lines of text. `columns` must be in ascending order of steps.
    pub(super) fn draw(self, columns: &[Column]) -> Vec<String> {
        let shown: Vec<Column> =
            columns.iter().copied().filter(|it| it.min.is_finite() && it.max.is_finite()).collect();
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else {
            return vec!["  no finite values".to_owned()];
        };
        let low = shown.iter().map(|it| it.min).fold(f64::INFINITY, f64::min);
        let high = shown.iter().map(|it| it.max).fold(f64::NEG_INFINITY, f64::max);
        let steps = Scale::new(first.first_step as f64, last.last_step as f64, self.columns * DOTS_WIDE);
        let values = Scale::new(low, high, self.lines * DOTS_HIGH);
        let mut canvas = Canvas::new(self);
        let mut before = None;
        for column in &shown {
            let dots = [steps.dot(column.first_step as f64), steps.dot(column.last_step as f64)];
            for x in dots[0]..=dots[1] {
                for y in values.dot(column.min)..=values.dot(column.max) {
                    canvas.set(x, y);
                }
            }
            let middle = values.dot(f64::midpoint(column.min, column.max));
            // Connects the middle of neighboring columns.
            if let Some(end) = before.replace([dots[1], middle]) {
                canvas.line(end, [dots[0], middle]);
            }
        }
        self.frame(&canvas.letters, [low, high], [first.first_step, last.last_step])
    }

    /// Adds axes and labels to the canvas.
    fn frame(self, canvas: &[Vec<u32>], [low, high]: [f64; 2], [first, last]: [i64; 2]) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, line) in canvas.iter().enumerate() {
            let label = match at {
                0 => number(high),
                at if at + 1 == canvas.len() => number(low),
                _ => String::new(),
            };
            let text: String = line.iter().filter_map(|dots| char::from_u32(NO_DOT + dots)).collect();
            lines.push(format!("{label:>MARGIN$}┤{text}"));
        }
        lines.push(format!("{:>MARGIN$}└{}", "", "─".repeat(self.columns)));
        let first = first.to_string();
        let last = last.to_string();
        let gap = self.columns.saturating_sub(first.len());
        lines.push(format!("{:>MARGIN$} {first}{last:>gap$}", ""));
        lines
    }
}

/// A grid of dots; row 0 is at the bottom.
struct Canvas {
    /// Braille bits of each character, top line first.
    letters: Vec<Vec<u32>>,
}

impl Canvas {
    fn new(plot: Plot) -> Self {
        Self { letters: vec![vec![0; plot.columns]; plot.lines] }
    }

    fn set(&mut self, x: usize, y: usize) {
        let from_top = self.letters.len() * DOTS_HIGH - 1 - y;
        self.letters[from_top / DOTS_HIGH][x / DOTS_WIDE] |= DOTS[x % DOTS_WIDE][from_top % DOTS_HIGH];
    }

    /// Draws a line between two dots, so that sparse points are seen as one curve.
    fn line(&mut self, from: [usize; 2], to: [usize; 2]) {
        let steps = from[0].abs_diff(to[0]).max(from[1].abs_diff(to[1]));
        for step in 0..=steps {
            let part = step as f64 / steps.max(1) as f64;
            self.set(between(from[0], to[0], part), between(from[1], to[1], part));
        }
    }
}

fn between(from: usize, to: usize, part: f64) -> usize {
    (from as f64 + (to as f64 - from as f64) * part).round() as usize
}

/// Maps a range of numbers to dots.
struct Scale {
    low: f64,
    range: f64,
    dots: usize,
}

impl Scale {
    fn new(low: f64, high: f64, dots: usize) -> Self {
        Self { low, range: high - low, dots }
    }

    fn dot(&self, value: f64) -> usize {
        // A constant is drawn in the middle: at an edge it would look like a minimum or
        // maximum.
        let part = if self.range > 0.0 { (value - self.low) / self.range } else { 0.5 };
        ((part * (self.dots - 1) as f64).round() as usize).min(self.dots - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(step: i64, min: f64, max: f64) -> Column {
        Column { first_step: step, last_step: step, min, max }
    }

    fn plot(columns: &[Column]) -> Vec<String> {
        // Two characters in two lines: four dots by eight.
        Plot::new(MARGIN + 3, 4).draw(columns)
    }

    #[test]
    fn a_line_connects_opposite_corners() {
        let lines = plot(&[column(0, 0.0, 0.0), column(30, 7.0, 7.0)]);
        let expected = ["          7┤⠀⡜", "          0┤⡜⠀", "           └──", "            030"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_range_of_steps_is_drawn_from_minimum_to_maximum() {
        let lines = plot(&[column(0, 0.0, 7.0), column(3, 3.5, 3.5)]);
        assert_eq!(&lines[..2], ["          7┤⣇⣀", "          0┤⡇⠀"]);
    }

    #[test]
    fn values_that_are_not_finite_are_omitted() {
        assert_eq!(plot(&[]), ["  no finite values"]);
        assert_eq!(plot(&[column(0, f64::NAN, f64::NAN)]), ["  no finite values"]);
        let lines = plot(&[column(0, f64::NAN, f64::NAN), column(5, 2.0, 2.0)]);
        assert_eq!(lines.iter().flat_map(|it| it.chars()).filter(|it| ('⠁'..='⣿').contains(it)).count(), 1);
    }
}
