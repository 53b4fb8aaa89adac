//! `evaluate` and `report`: the quality of bundles.

use anyhow::{Context, Result, ensure};
use tutti::decode::Decoding;
use tutti::decode::{InferenceModel, Limits, SearchOptions, Steps};
use tutti::model::{Architecture, Backend, Bundle, DeviceChoice, Dtype, Score};
use tutti::train::data::test_set::TestSet;
use tutti::train::measure::evaluate::{DecodingScores, evaluate, evaluate_search};
use tutti::train::measure::report;

use crate::arguments::{EvaluateArgs, ReportArgs};
use crate::print;
use crate::writing::lock_existing;

pub fn evaluate_bundle(args: &EvaluateArgs) -> Result<()> {
    let _lock = if args.record { lock_existing(&args.model)? } else { None };
    let bundle = Bundle::open(&args.model)?;
    let set = TestSet::read(&args.source, &args.reference, usize::MAX)?;
    let parallel = bundle.config.architecture != Architecture::Ar;
    let length_beam =
        args.length_beam.unwrap_or_else(|| Limits::of(&bundle.config.shape).default_length_beam());
    let rows = if parallel {
        evaluate_steps(args, &bundle, &set, length_beam)?
    } else {
        evaluate_beams(args, &bundle, &set)?
    };
    let dtype = if parallel { args.network.dtype_on_cpu() } else { Dtype::F32 };
    let (bleu, chrf) = (tutti::eval::bleu_signature(), tutti::eval::chrf_signature());
    if args.json {
        let report = serde_json::json!({
            "model": bundle.name, "checksum": bundle.checksum, "sentences": set.len(),
            "length_beam": parallel.then_some(length_beam), "dtype": dtype.name(),
            "bleu_signature": bleu, "chrf_signature": chrf, "scores": rows,
        });
        print(&serde_json::to_string_pretty(&report)?)?;
    } else {
        let lengths = if parallel { format!(", length beam {length_beam}") } else { String::new() };
        let about = format!("{} sentences{lengths}, {}", set.len(), dtype.name());
        print(&format!("{}\n\nBLEU {bleu}\nchrF {chrf}\n{about}", table(&rows)))?;
    }
    if args.record {
        let score = |r: &DecodingScores| match r.decoding {
            Decoding::Steps(steps) => {
                Some(Score { steps: steps.get() as u8, bleu: round(r.bleu), chrf: round(r.chrf) })
            }
            Decoding::Beam(_) => None,
        };
        let scores: Option<Vec<Score>> = rows.iter().map(score).collect();
        require_unchanged(&bundle)?;
        bundle.record_scores(
            scores.context("--record: a bundle can only hold scores by steps, not by beams")?,
        )?;
    }
    Ok(())
}

/// # Errors
/// A bundle whose folder has other content than when it was opened: its scores would be those of another model.
fn require_unchanged(bundle: &Bundle) -> Result<()> {
    let same = Bundle::open(&bundle.dir)
        .is_ok_and(|now| now.checksum == bundle.checksum && now.config == bundle.config);
    let folder = bundle.dir.display();
    ensure!(
        same,
        "{folder}: the bundle changed while it was measured; nothing is recorded, measure it again"
    );
    Ok(())
}

fn evaluate_steps(
    args: &EvaluateArgs,
    bundle: &Bundle,
    set: &TestSet,
    length_beam: usize,
) -> Result<Vec<DecodingScores>> {
    let network = InferenceModel::open(bundle, &args.network.backend_on(DeviceChoice::Cpu)?)?;
    let reader = bundle.reader();
    let measure = |&steps: &u8| {
        let steps = Steps::new(steps).context("--steps must be at least 1")?;
        Ok(evaluate(&network, &reader, set, steps, length_beam, args.batch_tokens)?.scores)
    };
    args.steps.iter().map(measure).collect()
}

fn evaluate_beams(args: &EvaluateArgs, bundle: &Bundle, set: &TestSet) -> Result<Vec<DecodingScores>> {
    let network = bundle.network(&Backend::cpu())?;
    let measure = |&beam: &usize| {
        let options = SearchOptions { max_batch_tokens: args.batch_tokens, ..SearchOptions::new(beam) };
        Ok(evaluate_search(&network, &bundle.reader(), set, &options)?.scores)
    };
    args.beam.iter().map(measure).collect()
}

fn round(score: f64) -> f64 {
    (score * 100.0).round() / 100.0
}

fn table(rows: &[DecodingScores]) -> String {
    let head = [
        "| decoding | BLEU | BLEU, repeats kept | chrF | repeats | sentences/s |",
        "|---|---|---|---|---|---|",
    ];
    let line = |r: &DecodingScores| {
        let DecodingScores { decoding, bleu, bleu_uncollapsed, chrf, .. } = r;
        let (repeats, speed) = (100.0 * r.repetition_rate, r.sentences_per_second);
        format!(
            "| {decoding} | {bleu:.2} | {bleu_uncollapsed:.2} | {chrf:.2} | {repeats:.1} % | {speed:.0} |"
        )
    };
    let lines: Vec<String> = head.iter().map(|&line| line.to_owned()).chain(rows.iter().map(line)).collect();
    lines.join("\n")
}

pub fn report_models(args: ReportArgs) -> Result<()> {
    let plan = report::ReportPlan {
        source: args.source,
        reference: args.reference,
        sentences: args.sentences,
        steps: args.steps,
        length_beams: args.length_beams,
        beams: args.beams,
        buckets: args.buckets,
        resamples: args.resamples,
        seed: args.seed,
        timed_sentences: args.timed_sentences,
        timing_rounds: args.timing_rounds,
        batch_tokens: args.batch_tokens,
        dtype: args.network.dtype_on_cpu(),
        shortlist: !args.network.no_shortlist,
        lm: !args.network.no_lm,
    };
    plan.validate()?;
    let open = |text: &String| match text.split_once('=') {
        Some((name, path)) => report::ReportModel::open(Some(name), path.as_ref(), &plan),
        None => report::ReportModel::open(None, text.as_ref(), &plan),
    };
    let models = args.models.iter().map(open).collect::<tutti::Result<Vec<_>>>()?;
    let done = report::run(&plan, &models, |row| {
        let report::Row { model, setup, bleu, latency_p50_ms, .. } = row;
        eprintln!("{model}, {setup}: BLEU {bleu:.2}, {latency_p50_ms:.1} ms");
    })?;
    done.write(&args.output)?;
    eprintln!("done: {}", args.output.join("report.md").display());
    Ok(())
}
