//! What the server says of itself at `/metrics`.

use anyhow::{Context, Result};
use prometheus_parse::{Scrape, Value};

/// The value of a series without labels.
///
/// # Errors
/// If the server does not answer, or has no such series.
pub async fn value(http: &reqwest::Client, url: &str, name: &str) -> Result<f64> {
    let text = http.get(url).send().await?.error_for_status()?.text().await?;
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?;
    let sample = scrape.samples.into_iter().find(|sample| sample.metric == name);
    match sample.with_context(|| format!("{url} has no {name}"))?.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Ok(value),
        Value::Histogram(_) | Value::Summary(_) => anyhow::bail!("{name} is not one number"),
    }
}
