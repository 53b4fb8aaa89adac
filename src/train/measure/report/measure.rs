//! Scores and latency of one model with one decoding.

use std::time::Instant;

use serde::Serialize;

use super::{DecodingSetup, ReportModel, ReportPlan};
use crate::eval::{BleuStats, ChrfStats, Interval, Resamples, compare};
use crate::text::Passage;
use crate::train::data::corpus::{read_lines, require_equal_counts};
use crate::{Error, Result};

/// Number of untimed sentences before the measurement.
const WARM_UP: usize = 5;

/// Sentences of similar length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Smallest and largest number of words in the source, separated by white space; no largest in the last bucket.
    pub from: usize,
    pub to: Option<usize>,
    pub sentences: usize,
}

impl Bucket {
    fn holds(&self, words: usize) -> bool {
        words >= self.from && self.to.is_none_or(|to| words <= to)
    }
}

/// The test set, and its buckets by length.
pub struct BucketedTexts {
    sources: Vec<String>,
    references: Vec<String>,
    buckets: Vec<Bucket>,
}

impl BucketedTexts {
    pub fn read(plan: &ReportPlan) -> Result<Self> {
        let (mut sources, mut references) = (read_lines(&plan.source)?, read_lines(&plan.reference)?);
        require_equal_counts((&plan.source, sources.len()), (&plan.reference, references.len()))?;
        let count = plan.sentences.unwrap_or(usize::MAX);
        sources.truncate(count);
        references.truncate(count);
        if sources.is_empty() {
            return Err(Error::bundle(&plan.source, "has no lines"));
        }
        let mut buckets = Vec::new();
        if !plan.buckets.is_empty() {
            let ends = plan.buckets.iter().copied().map(Some).chain([None]);
            let starts = std::iter::once(0).chain(plan.buckets.iter().map(|end| end + 1));
            for (from, to) in starts.zip(ends) {
                let mut bucket = Bucket { from, to, sentences: 0 };
                bucket.sentences = sources.iter().filter(|text| bucket.holds(words(text))).count();
                buckets.push(bucket);
            }
        }
        Ok(Self { sources, references, buckets })
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Indices of the sentences of a bucket.
    fn indices(&self, bucket: &Bucket) -> Vec<usize> {
        (0..self.len()).filter(|&i| bucket.holds(words(&self.sources[i]))).collect()
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// One row of the report. BLEU and chrF are 0 to 100, as in sacreBLEU.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub model: String,
    #[serde(rename = "way")]
    pub setup: DecodingSetup,
    pub bleu: f64,
    /// Half the width of the 95 % interval of the resampled scores.
    pub bleu_half_width: f64,
    pub chrf: f64,
    /// Share of output tokens that equal the one before, before merging.
    pub repetition_rate: f64,
    /// Median latency of a single line, from text to text.
    pub latency_p50_ms: f64,
    pub latency_p90_ms: f64,
    pub timed_sentences: usize,
    /// Throughput in batches.
    pub sentences_per_second: f64,
    /// BLEU of each bucket; `None` without sentences.
    pub bucket_bleu: Vec<Option<f64>>,
    /// Comparison with the first model; `None` in its own rows.
    pub against: Option<Against>,
}

/// A comparison with the first model.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    pub model: String,
    #[serde(rename = "way")]
    pub setup: DecodingSetup,
    /// This row minus the baseline.
    pub bleu_difference: f64,
    pub bleu_p_value: f64,
    pub chrf_difference: f64,
    pub chrf_p_value: f64,
}

/// The scores that a comparison needs.
pub struct Scores {
    model: String,
    setup: DecodingSetup,
    bleu: f64,
    chrf: f64,
    bleu_sets: Vec<f64>,
    chrf_sets: Vec<f64>,
}

impl Row {
    /// Compares with the baseline's row of the same decoding, or with its last row if there is none.
    pub fn compare(&mut self, own: &Scores, baselines: &[Scores]) {
        let same = baselines.iter().find(|baseline| baseline.setup == own.setup).or(baselines.last());
        self.against = same.map(|baseline| {
            let bleu = compare(baseline.bleu, own.bleu, &baseline.bleu_sets, &own.bleu_sets);
            let chrf = compare(baseline.chrf, own.chrf, &baseline.chrf_sets, &own.chrf_sets);
            Against {
                model: baseline.model.clone(),
                setup: baseline.setup,
                bleu_difference: bleu.difference,
                bleu_p_value: bleu.p_value,
                chrf_difference: chrf.difference,
                chrf_p_value: chrf.p_value,
            }
        });
    }
}

pub fn measure(
    plan: &ReportPlan,
    model: &ReportModel,
    setup: DecodingSetup,
    texts: &BucketedTexts,
    resamples: &Resamples,
) -> Result<(Row, Scores)> {
    let reader = model.bundle.reader();
    let begin = Instant::now();
    let mut passages: Vec<Passage> = texts.sources.iter().map(|text| reader.read(text)).collect();
    let repetition = model.translator.translate(setup, &mut passages, plan.batch_tokens)?;
    let translations: Vec<String> = passages.iter().map(Passage::text).collect();
    let seconds = begin.elapsed().as_secs_f64();

    let (mut bleu, mut chrf) = (Vec::new(), Vec::new());
    for (translation, reference) in translations.iter().zip(&texts.references) {
        bleu.push(BleuStats::of(translation, reference));
        chrf.push(ChrfStats::of(translation, reference));
    }
    let bleu_of = |stats: BleuStats| stats.score().score;
    let bucket = |bucket: &Bucket| {
        let indices = texts.indices(bucket);
        (!indices.is_empty()).then(|| bleu_of(indices.into_iter().map(|i| bleu[i]).sum()))
    };
    let scores = Scores {
        model: model.name.clone(),
        setup,
        bleu: bleu_of(bleu.iter().copied().sum()),
        chrf: chrf.iter().copied().sum::<ChrfStats>().score(),
        bleu_sets: resamples.scores(&bleu, bleu_of),
        chrf_sets: resamples.scores(&chrf, |stats| stats.score()),
    };
    let latencies = latencies_ms(plan, model, setup, &texts.sources)?;
    let row = Row {
        model: model.name.clone(),
        setup,
        bleu: scores.bleu,
        bleu_half_width: Interval::of(&scores.bleu_sets).map_or(0.0, |interval| interval.half_width),
        chrf: scores.chrf,
        repetition_rate: repetition.rate(),
        latency_p50_ms: percentile(&latencies, 50),
        latency_p90_ms: percentile(&latencies, 90),
        timed_sentences: latencies.len(),
        sentences_per_second: texts.len() as f64 / seconds.max(1e-9),
        bucket_bleu: texts.buckets.iter().map(bucket).collect(),
        against: None,
    };
    Ok((row, scores))
}

/// Latencies of single lines, each the median of its rounds, ascending.
fn latencies_ms(
    plan: &ReportPlan,
    model: &ReportModel,
    setup: DecodingSetup,
    sources: &[String],
) -> Result<Vec<f64>> {
    let reader = model.bundle.reader();
    let chosen: Vec<&String> = spread(sources.len(), plan.timed_sentences).map(|i| &sources[i]).collect();
    let time = |source: &&String| -> Result<f64> {
        let begin = Instant::now();
        let mut passages = [reader.read(source)];
        model.translator.translate(setup, &mut passages, plan.batch_tokens)?;
        let [passage] = passages;
        std::hint::black_box(passage.text());
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    for source in chosen.iter().take(WARM_UP) {
        time(source)?;
    }
    // Round by round, so that a short disturbance affects a sentence only once.
    let mut times = vec![Vec::with_capacity(plan.timing_rounds); chosen.len()];
    for _ in 0..plan.timing_rounds {
        for (times, source) in times.iter_mut().zip(&chosen) {
            times.push(time(source)?);
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        percentile(&times, 50)
    };
    let mut latencies: Vec<f64> = times.into_iter().map(median).collect();
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Up to `wanted` of `count` indices, evenly spaced.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(count);
    (0..wanted).map(move |i| i * count / wanted.max(1))
}

/// Nearest-rank percentile; 0 for no values.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
