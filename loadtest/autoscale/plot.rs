//! Load, pods and p99 over the day, one above the other; the legend has the cost.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Outcome, Point};

const SIZE: (u32, u32) = (980, 860);

/// Okabe and Ito's colours, which colour-blind people can distinguish.
const COLOURS: [RGBColor; 6] = [
    RGBColor(60, 60, 60),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// # Errors
/// What the drawing library answers with.
pub fn draw(outcomes: &[Outcome]) -> Result<String> {
    let mut svg = String::new();
    panels(outcomes, &SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
        .map_err(|error| anyhow!("the plot: {error}"))?;
    Ok(svg)
}

fn panels(outcomes: &[Outcome], area: &Area<'_>) -> Drawn {
    area.fill(&WHITE)?;
    let (load, rest) = area.split_vertically(200);
    let (pods, latency) = rest.split_vertically(320);
    if let Some(outcome) = outcomes.first() {
        let most = outcome.curve.iter().map(|point| point.rate).fold(1.0, f64::max);
        panel(&load, &outcomes[..1], "requests a second", 0.0..most * 1.05, false, |point| point.rate)?;
    }
    let most = outcomes.iter().map(|outcome| outcome.most_pods).max().unwrap_or(1);
    panel(&pods, outcomes, "pods", 0.0..f64::from(most) + 0.5, true, |point| f64::from(point.pods))?;
    // Powers of ten of a millisecond.
    panel(&latency, outcomes, "p99 in ms (logarithmic)", 0.0..4.2, false, |point| {
        point.p99_ms.max(1.0).log10()
    })?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &Area<'_>,
    outcomes: &[Outcome],
    what: &str,
    values: Range<f64>,
    legend: bool,
    value: impl Fn(&Point) -> f64,
) -> Drawn {
    let powers = what.contains("logarithmic");
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..24.0, values)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.5))
        .x_labels(13)
        .y_labels(6)
        .x_label_formatter(&|hour| format!("{hour:.0}"))
        .y_label_formatter(&|value| {
            if powers { format!("{:.0}", 10_f64.powf(*value)) } else { format!("{value:.0}") }
        })
        .x_desc("hour of the day")
        .y_desc(what)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    for (outcome, colour) in outcomes.iter().zip(COLOURS) {
        let points = outcome.curve.iter().map(|point| (point.hour, value(point)));
        let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        if legend {
            series
                .label(format!("{}: {:.1} pod-hours", outcome.name, outcome.pod_hours()))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        }
    }
    if legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(8)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font(("sans-serif", 13))
            .draw()?;
    }
    Ok(())
}
