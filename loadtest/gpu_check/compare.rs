//! Compares a network's results with those of the f32 network on the CPU.

use anyhow::Result;
use serde::Serialize;
use tutti::decode::{
    DecodeOptions, Hypothesis, InferenceModel, Prediction, Row, Steps, Translator, translate,
};
use tutti::model::{Dtype, Lengths};

/// A measured value and the most it may be.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub dtype: &'static str,
    pub value: f64,
    pub limit: f64,
    pub passed: bool,
}

impl Check {
    fn at_most(name: &str, dtype: Dtype, value: f64, limit: f64) -> Self {
        // A NaN is not at most anything.
        Self { name: name.into(), dtype: dtype.name(), value, limit, passed: value <= limit }
    }
}

/// How far a number type may be from f32 on the CPU: relative error of log-probabilities (at least one counts
/// as one), share of places with another best token, share of other translations.
struct Limits {
    error: f64,
    places: f64,
    translations: f64,
}

fn limits(dtype: Dtype) -> Limits {
    match dtype {
        Dtype::F32 => Limits { error: 1e-4, places: 0.0, translations: 0.0 },
        Dtype::F16 => Limits { error: 2e-2, places: 0.01, translations: 0.05 },
        Dtype::Bf16 => Limits { error: 2e-2, places: 0.02, translations: 0.25 },
        // Eight bits are another network: their quality is measured in BLEU, elsewhere.
        Dtype::Q8 => Limits { error: 1.0, places: 0.2, translations: 0.75 },
    }
}

/// Length classes, where there are any, and first passes of sentences.
pub struct Places {
    lengths: Vec<Vec<f32>>,
    best: Vec<Vec<Prediction>>,
}

/// # Errors
/// Errors of the network.
pub fn places(network: &InferenceModel, sources: &[Vec<u32>]) -> Result<Places> {
    let specials = network.specials();
    let (mut lengths, mut best) = (Vec::new(), Vec::new());
    for part in sources.chunks(64) {
        let texts: Vec<&[u32]> = part.iter().map(Vec::as_slice).collect();
        let encoded = network.encode(&texts)?;
        let canvases: Vec<Vec<u32>> = part.iter().map(|source| first_canvas(network, source.len())).collect();
        let masks = |canvas: &Vec<u32>| (0..canvas.len()).filter(|&i| canvas[i] == specials.mask).collect();
        let wanted: Vec<Vec<usize>> = canvases.iter().map(masks).collect();
        let rows: Vec<_> = (0..part.len())
            .map(|i| Row {
                memory: &encoded[i].memory,
                canvas: &canvases[i],
                wanted: &wanted[i],
                top_k: false,
            })
            .collect();
        best.extend(network.decode(&rows)?);
        lengths
            .extend(encoded.into_iter().map(|sentence| sentence.length_prediction.into_length_log_probs()));
    }
    Ok(Places { lengths, best })
}

/// Slots, or a mask for each inner source token between bos and eos.
fn first_canvas(network: &InferenceModel, source: usize) -> Vec<u32> {
    let specials = network.specials();
    if network.limits().has_blanks {
        return vec![specials.mask; Lengths::SLOTS_PER_TOKEN * source];
    }
    let mut canvas = vec![specials.mask; source];
    (canvas[0], canvas[source - 1]) = (specials.bos, specials.eos);
    canvas
}

impl Places {
    /// `self` is the CPU's.
    pub fn compared(&self, other: &Places, dtype: Dtype) -> Vec<Check> {
        let limits = limits(dtype);
        let error = |found: f32, expected: f32| {
            f64::from((found - expected).abs()) / f64::from(expected.abs()).max(1.0)
        };
        let worst = |errors: &mut dyn Iterator<Item = f64>| {
            errors.fold(0.0, |worst: f64, error| if error.is_nan() { f64::NAN } else { worst.max(error) })
        };
        let lengths = self.lengths.concat().into_iter().zip(other.lengths.concat());
        // Impossible lengths are impossible for both.
        let mut of_lengths =
            lengths.filter(|(a, b)| a.is_finite() || b.is_finite()).map(|(a, b)| error(b, a));
        let (expected, found) = (self.best.concat(), other.best.concat());
        let same = || expected.iter().zip(&found).filter(|(a, b)| a.token == b.token);
        let others = 1.0 - same().count() as f64 / expected.len() as f64;
        let mut of_tokens = same().map(|(a, b)| error(b.log_prob, a.log_prob));
        let mut checks = vec![
            Check::at_most(
                "token log-probabilities, largest error",
                dtype,
                worst(&mut of_tokens),
                limits.error,
            ),
            Check::at_most("places with another best token", dtype, others, limits.places),
        ];
        if self.lengths.iter().any(|lengths| !lengths.is_empty()) {
            let what = "length log-probabilities, largest error";
            checks.push(Check::at_most(what, dtype, worst(&mut of_lengths), limits.error));
        }
        checks
    }
}

/// The best hypothesis of each sentence, for each number of steps.
///
/// # Errors
/// Errors of the network.
pub fn translations(
    network: &InferenceModel,
    sources: &[Vec<u32>],
    steps: &[Steps],
) -> Result<Vec<Hypothesis>> {
    let mut best = Vec::new();
    for &steps in steps {
        let options = DecodeOptions { length_beam: 3, ..DecodeOptions::new(steps) };
        let translated = translate(network, sources, &options)?;
        best.extend(translated.into_iter().filter_map(|hypotheses| hypotheses.into_iter().next()));
    }
    Ok(best)
}

pub fn same_translations(expected: &[Hypothesis], found: &[Hypothesis], dtype: Dtype) -> Check {
    let others = expected.iter().zip(found).filter(|(a, b)| a.tokens != b.tokens).count();
    let share = others as f64 / expected.len() as f64;
    Check::at_most("translations that differ", dtype, share, limits(dtype).translations)
}

/// Checks that each sentence alone has the same result as in a batch with all others, bit for bit.
///
/// # Errors
/// Errors of the network.
pub fn alone_and_together(
    network: &InferenceModel,
    sources: &[Vec<u32>],
    steps: &[Steps],
    dtype: Dtype,
) -> Result<Vec<Check>> {
    let bits = |hypothesis: &Hypothesis| {
        let scores: Vec<u32> = hypothesis.token_log_probs.iter().map(|v| v.to_bits()).collect();
        (hypothesis.tokens.clone(), scores, hypothesis.score.to_bits())
    };
    let mut checks = Vec::new();
    for &steps in steps {
        let together = translations(network, sources, &[steps])?;
        let mut others = 0;
        for (source, together) in sources.iter().zip(&together) {
            let alone = translations(network, std::slice::from_ref(source), &[steps])?;
            others += usize::from(alone.iter().map(bits).ne([bits(together)]));
        }
        let name = format!("sentences with other bits alone than in a batch, {steps} steps");
        checks.push(Check::at_most(&name, dtype, others as f64, 0.0));
    }
    Ok(checks)
}
