//! Writes the report as Markdown.

use std::fmt::Write;

use super::{Bucket, Report, Row};
use crate::eval::{bleu_signature, chrf_signature};

pub fn markdown(report: &Report) -> String {
    let mut text = String::from("# Quality and latency\n\n");
    text += &head(report);
    text += &quality(report);
    if !report.buckets.is_empty() {
        text += &by_length(report);
    }
    text += &notes(report);
    text
}

fn head(report: &Report) -> String {
    let mut text = String::new();
    let Report { plan, machine, sentences, .. } = report;
    let (source, reference) = (plan.source.display(), plan.reference.display());
    let _ = writeln!(text, "{sentences} sentences of `{source}`, against `{reference}`.\n");
    let (cores, threads) = (count(machine.cores, "core"), count(report.threads, "thread"));
    let mut dtype = plan.dtype.name().to_owned();
    for (used, name) in [(plan.shortlist, "shortlists"), (plan.lm, "language models")] {
        dtype += &if used { String::new() } else { format!(", no {name}") };
    }
    let _ = writeln!(text, "{}, {cores}, {threads}, {dtype}.\n", machine.processor);
    for model in &report.models {
        let checksum = model.checksum.get(..12).unwrap_or(&model.checksum);
        let _ = writeln!(text, "* **{}**: `{}` ({checksum})", cell(&model.name), model.path.display());
    }
    text += "\n![Quality over latency](quality.svg)\n\n";
    text
}

fn quality(report: &Report) -> String {
    let mut text = String::from(
        "| model | decoding | BLEU | against the first | p | chrF | repeats | p50 | p90 | sentences/s |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &report.rows {
        let (difference, p_value) = match &row.against {
            None => ("–".to_owned(), "–".to_owned()),
            Some(against) => {
                let other =
                    if against.setup == row.setup { String::new() } else { format!(" ({})", against.setup) };
                let difference = format!("{:+.2}{other}", against.bleu_difference);
                (difference, p_value(against.bleu_p_value))
            }
        };
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} ± {:.2} | {difference} | {p_value} | {:.2} | {:.1} % | {:.1} ms | {:.1} ms | {:.0} |",
            cell(&row.model),
            row.setup,
            row.bleu,
            row.bleu_half_width,
            row.chrf,
            100.0 * row.repetition_rate,
            row.latency_p50_ms,
            row.latency_p90_ms,
            row.sentences_per_second
        );
    }
    text
}

fn by_length(report: &Report) -> String {
    let mut text = String::from("\n## BLEU by words of the source\n\n| model | decoding |");
    for bucket in &report.buckets {
        let _ = write!(text, " {} |", label(bucket));
    }
    text += "\n|---|---|";
    text += &"---|".repeat(report.buckets.len());
    text += "\n| | sentences |";
    for bucket in &report.buckets {
        let _ = write!(text, " {} |", bucket.sentences);
    }
    text.push('\n');
    for Row { model, setup, bucket_bleu, .. } in &report.rows {
        let _ = write!(text, "| {} | {setup} |", cell(model));
        for bleu in bucket_bleu {
            let bleu = bleu.map_or("–".to_owned(), |bleu| format!("{bleu:.2}"));
            let _ = write!(text, " {bleu} |");
        }
        text.push('\n');
    }
    text
}

fn notes(report: &Report) -> String {
    let (plan, timed) = (&report.plan, report.rows.first().map_or(0, |row| row.timed_sentences));
    format!(
        "\nBLEU {}, ± half the 95 % interval of {} bootstrap samples.  \nchrF {}.  \nDifference and p: paired bootstrap \
         (Koehn 2004, sacreBLEU's `paired-bs`), seed {}, of BLEU, against the first model with the same decoding or, \
         if it has none, the one in brackets.  \nLatency: one sentence at a time, from text to text, the median of {} rounds of {timed} sentences.\n",
        bleu_signature(),
        plan.resamples,
        chrf_signature(),
        plan.seed,
        plan.timing_rounds,
    )
}

fn count(number: usize, unit: &str) -> String {
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn label(bucket: &Bucket) -> String {
    match bucket.to {
        Some(to) if bucket.from == 0 => format!("up to {to}"),
        Some(to) => format!("{}–{to}", bucket.from),
        None => format!("{} and more", bucket.from),
    }
}

/// Small values are not rounded to 0.
fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Escapes `|`, which would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
