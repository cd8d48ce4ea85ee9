//! `matyan settings`: the list of all settings, for people.

use std::io::{self, Write};

use super::{setting::Definition, table};

/// Prints every setting.
pub(crate) fn print_settings() -> io::Result<()> {
    let mut out = io::stdout().lock();
    table::ALL.iter().try_for_each(|setting| writeln!(out, "{}", paragraph(setting)))
}

/// Names of a setting on the first line; below them its meaning, default and value in the Helm
/// chart.
fn paragraph(setting: &Definition) -> String {
    let flag = setting.flag.map(|flag| format!("  --{}", flag.name)).unwrap_or_default();
    let mut text = format!("{}{flag}  {}\n", setting.variables.join(", "), setting.key);
    text += &format!("    {}\n", setting.help);
    if let Some(default) = setting.default_text() {
        text += &format!("    default: {default}\n");
    }
    if let Some(chart) = setting.chart {
        text += &format!("    chart: {chart}\n");
    }
    text
}
