//! Draws quality over latency as an SVG: one curve for each model, over its steps or beams.

use std::collections::BTreeSet;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::series::LineSeries;

use super::{DecodingSetup, Report, Row};
use crate::{Error, Result};

const SIZE: (u32, u32) = (880, 540);

/// Colours by Okabe and Ito, distinguishable for colour-blind readers.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

/// Length beam of the curves, if the report has it: the server's default. Other beams are points.
const CURVE_BEAM: usize = 2;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// # Errors
/// Those of the drawing library, which are not expected.
pub fn quality_over_latency(report: &Report) -> Result<String> {
    let mut svg = String::new();
    draw(report, SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
        .map_err(|error| Error::Config(format!("the plot: {error}")))?;
    Ok(svg)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(report: &Report, area: DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    area.fill(&WHITE)?;
    let points: Vec<(f64, f64)> = report.rows.iter().map(coordinates).collect();
    let (left, right) = range_with_margin(points.iter().map(|point| point.0), 0.25);
    let (low, high) = range_with_margin(points.iter().map(|point| point.1), 1.0);
    let mut chart: Chart<'_, '_> = ChartBuilder::on(&area)
        .margin(16)
        .caption(caption(report), ("sans-serif", 15).into_font().color(&BLACK.mix(0.75)))
        .x_label_area_size(48)
        .y_label_area_size(56)
        .build_cartesian_2d(left..right, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.5))
        .x_labels(7)
        .x_label_formatter(&|power| milliseconds(power.exp2()))
        .y_label_formatter(&|bleu| format!("{bleu:.1}"))
        .x_desc("latency of one sentence, p50 in ms (logarithmic)")
        .y_desc("BLEU")
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    for (model, colour) in report.models.iter().zip(COLOURS.iter().cycle()) {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.model == model.name).collect();
        model_curve(&mut chart, &model.name, &rows, *colour)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(12)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

fn model_curve(chart: &mut Chart<'_, '_>, name: &str, rows: &[&Row], colour: RGBColor) -> Drawn {
    let (curve, others): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| on_curve(row, rows));
    chart
        .draw_series(LineSeries::new(curve.iter().map(|row| coordinates(row)), colour.stroke_width(2)))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    chart.draw_series(others.iter().map(|row| Circle::new(coordinates(row), 3, colour.mix(0.45))))?;
    chart.draw_series(curve.iter().map(|row| {
        let label = point_label(row.setup);
        let text = Text::new(label, (-4, -20), ("sans-serif", 13).into_font().color(&colour));
        EmptyElement::at(coordinates(row)) + Circle::new((0, 0), 4, colour.filled()) + text
    }))?;
    Ok(())
}

/// Whether a row is a point of its model's curve.
fn on_curve(row: &Row, rows: &[&Row]) -> bool {
    length_beam(row).is_none() || length_beam(row) == curve_beam(rows.iter().copied())
}

/// The length beam of the curves.
fn curve_beam<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<usize> {
    let beams: Vec<usize> = rows.filter_map(length_beam).collect();
    if beams.contains(&CURVE_BEAM) { Some(CURVE_BEAM) } else { beams.first().copied() }
}

fn length_beam(row: &Row) -> Option<usize> {
    match row.setup {
        DecodingSetup::Steps { length_beam, .. } => Some(length_beam),
        DecodingSetup::Beam(_) => None,
    }
}

fn caption(report: &Report) -> String {
    let beams: BTreeSet<usize> = report.rows.iter().filter_map(length_beam).collect();
    match curve_beam(report.rows.iter()) {
        None => String::new(),
        Some(beam) if beams.len() < 2 => format!("Numbers are decoding steps, {}.", lengths(beam)),
        Some(beam) => {
            format!("Numbers are decoding steps. Curves: {}; circles: other numbers.", lengths(beam))
        }
    }
}

fn lengths(beam: usize) -> String {
    if beam == 1 { "one target length".into() } else { format!("{beam} target lengths at once") }
}

/// The label of a point.
fn point_label(setup: DecodingSetup) -> String {
    match setup {
        DecodingSetup::Steps { steps, .. } => steps.to_string(),
        DecodingSetup::Beam(beam) => format!("beam {beam}"),
    }
}

/// Coordinates of a row. Latency is logarithmic, to base 2.
fn coordinates(row: &Row) -> (f64, f64) {
    (row.latency_p50_ms.max(1e-3).log2(), row.bleu)
}

/// The range of values with a margin of at least `min_margin`.
fn range_with_margin(values: impl Iterator<Item = f64>, min_margin: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, min_margin);
    }
    let margin = (0.08 * (high - low)).max(min_margin);
    (low - margin, high + margin)
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
