//! The table: a row is measured several times, and its median printed next to the budget as
//! soon as it is known.

/// Required bound on a figure.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
    /// No bound: the figure is for information.
    None,
}

/// Unit of a figure, which determines its format.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    PerSecond(&'static str),
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Megabytes,
    Bytes,
    Times,
}

pub(crate) struct Table {
    only: String,
    runs: usize,
    missed: Vec<String>,
}

impl Table {
    pub(crate) fn new(only: String, runs: usize) -> Self {
        println!("{:<74} {:>16} {:>16} {:>8}", "work", "budget", "measured", "");
        Self { only, runs, missed: Vec::new() }
    }

    /// Number of measurements of each row.
    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// True if the user selected this row.
    pub(crate) fn wants(&self, work: &str) -> bool {
        work.contains(&self.only)
    }

    /// Measures a row and prints it.
    pub(crate) async fn row(
        &mut self,
        work: &str,
        budget: Budget,
        unit: Unit,
        mut measure: impl AsyncFnMut() -> f64,
    ) {
        if !self.wants(work) {
            return;
        }
        let mut figures = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            figures.push(measure().await);
        }
        self.print(work, budget, unit, figures);
    }

    /// Prints why a row cannot be measured here.
    pub(crate) fn skip(&self, work: &str, reason: &str) {
        self.remark(work, &format!("not measured: {reason}"));
    }

    /// Prints a text about rows.
    pub(crate) fn remark(&self, work: &str, text: &str) {
        println!("{work:<74} {text}");
    }

    /// Prints figures that were measured together with the figures of other rows.
    pub(crate) fn print(&mut self, work: &str, budget: Budget, unit: Unit, mut figures: Vec<f64>) {
        // The median ignores outliers of a noisy machine.
        figures.sort_by(f64::total_cmp);
        let median = figures[figures.len() / 2];
        let (budget, kept) = match budget {
            Budget::AtLeast(bound) => (format!("≥ {}", unit.write(bound)), median >= bound),
            Budget::AtMost(bound) => (format!("≤ {}", unit.write(bound)), median <= bound),
            Budget::None => (String::new(), true),
        };
        println!(
            "{work:<74} {budget:>16} {:>16} {:>8}",
            unit.write(median),
            if kept { "" } else { "MISSED" }
        );
        if !kept {
            self.missed.push(work.to_owned());
        }
    }

    pub(crate) fn close(self) {
        match self.missed.len() {
            0 => println!("all budgets are met"),
            missed => println!("{missed} budgets are missed: {}", self.missed.join("; ")),
        }
    }
}

impl Unit {
    fn write(self, figure: f64) -> String {
        match self {
            Self::PerSecond(what) if figure >= 1e6 => format!("{:.2}M {what}/s", figure / 1e6),
            Self::PerSecond(what) if figure >= 1e4 => format!("{:.0}k {what}/s", figure / 1e3),
            Self::PerSecond(what) => format!("{figure:.0} {what}/s"),
            Self::Nanoseconds => format!("{figure:.1} ns"),
            Self::Microseconds => format!("{figure:.2} µs"),
            Self::Milliseconds => format!("{figure:.2} ms"),
            Self::Seconds => format!("{figure:.3} s"),
            Self::Megabytes => format!("{figure:.0} MB"),
            Self::Bytes => format!("{figure:.2} B"),
            Self::Times => format!("{figure:.2} ×"),
        }
    }
}
