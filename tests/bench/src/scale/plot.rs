//! The plot of the tables: for each growth a row of charts, a chart for each unit, with logarithmic
//! axes.

use plotters::{
    chart::ChartBuilder,
    coord::combinators::IntoLogRange,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{Circle, PathElement},
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, Color, RGBColor, ShapeStyle, WHITE},
};

use super::{Column, Growth};

/// Width and height of a chart in pixels.
const CHART: (u32, u32) = (330, 300);

/// Colors that color-blind people can tell apart.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

pub(super) fn svg(growths: &[Growth]) -> String {
    let units: Vec<_> = growths.iter().map(units).collect();
    let widest = units.iter().map(Vec::len).max().unwrap_or(1);
    let size = (CHART.0 * widest as u32, CHART.1 * growths.len().max(1) as u32);
    let mut text = String::new();
    let page = SVGBackend::with_string(&mut text, size).into_drawing_area();
    page.fill(&WHITE).expect("text can be written");
    for ((growth, units), row) in growths.iter().zip(units).zip(page.split_evenly((growths.len().max(1), 1)))
    {
        for (unit, area) in units.into_iter().zip(row.split_evenly((1, widest))) {
            draw(&area, growth, unit);
        }
    }
    page.present().expect("text can be written");
    drop(page);
    text
}

/// The units of the columns, in the order of their first columns.
fn units(growth: &Growth) -> Vec<&'static str> {
    let mut units = Vec::new();
    for column in growth.columns {
        if !units.contains(&column.unit) {
            units.push(column.unit);
        }
    }
    units
}

/// Draws the columns of a unit.
fn draw(area: &Area<'_>, growth: &Growth, unit: &str) {
    let columns = growth.columns.iter().enumerate().filter(|(_, column)| column.unit == unit);
    let columns: Vec<(usize, &Column)> = columns.collect();
    let figures = columns.iter().flat_map(|(at, _)| growth.rows.iter().map(move |(_, row)| row[*at]));
    let (least, most) = bounds(figures);
    let (first, last) = bounds(growth.rows.iter().map(|(size, _)| *size as f64));
    // Room for the names above the lines.
    let top = most * 3.0 * 4.0_f64.powi(columns.len() as i32);
    let mut chart = ChartBuilder::on(area)
        .caption(unit, ("sans-serif", 16))
        .margin(8)
        .margin_right(20)
        .x_label_area_size(34)
        .y_label_area_size(58)
        .build_cartesian_2d((first..last).log_scale(), (least / 1.5..top).log_scale())
        .expect("a chart fits");
    chart
        .configure_mesh()
        .x_desc(growth.of)
        .x_labels(4)
        .y_labels(6)
        .x_label_formatter(&|size| short(*size))
        .y_label_formatter(&|figure| short(*figure))
        .light_line_style(WHITE)
        .draw()
        .expect("text can be written");
    for ((at, column), color) in columns.into_iter().zip(COLORS.iter().cycle()) {
        let points: Vec<_> = growth.rows.iter().map(|(size, row)| (*size as f64, row[at])).collect();
        let style = ShapeStyle::from(color).stroke_width(2);
        let line = LineSeries::new(points.iter().copied(), style);
        chart
            .draw_series(line)
            .expect("text can be written")
            .label(column.title)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
        let dots = points.into_iter().map(|point| Circle::new(point, 2, color.filled()));
        chart.draw_series(dots).expect("text can be written");
    }
    chart
        .configure_series_labels()
        .position(plotters::chart::SeriesLabelPosition::UpperLeft)
        .margin(4)
        .legend_area_size(18)
        .label_font(("sans-serif", 11, &BLACK))
        .background_style(WHITE.mix(0.8))
        .draw()
        .expect("text can be written");
}

/// The least and the greatest figure; logarithms need positive figures.
fn bounds(figures: impl Iterator<Item = f64>) -> (f64, f64) {
    figures
        .fold((f64::INFINITY, 1e-3), |(least, most), figure| (least.min(figure.max(1e-3)), most.max(figure)))
}

/// A label of an axis, such as 4M.
fn short(figure: f64) -> String {
    match figure {
        _ if figure >= 1e9 => format!("{}G", figure / 1e9),
        _ if figure >= 1e6 => format!("{}M", figure / 1e6),
        _ if figure >= 1e3 => format!("{}k", figure / 1e3),
        _ => format!("{figure}"),
    }
}
