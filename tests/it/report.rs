//! `train report` on tiny models with random weights.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tutti::model::{Backend, Bundle, Config, Dtype, Shape, Spec};
use tutti::train::measure::report::{DecodingSetup, Report, ReportModel, ReportPlan, Row, run};

use crate::support::{LINES, TOKENIZER};

/// Two bundles with different weights, and a test set of four sentences.
fn models() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vocab = TOKENIZER.vocab_size();
    let shape: Shape = format!("enc=1,dec=1,d=16,ffn=32,heads=2,vocab={vocab},positions=96").parse().unwrap();
    for (name, seed) in [("one", 1), ("two", 2)] {
        let tensors = Spec::initial(&shape, seed, Backend::cpu().device()).unwrap();
        let config = Config::new(shape.clone(), "en", "de");
        Bundle::save(&folder.path().join(name), &config, &TOKENIZER, &tensors, "Random weights.\n").unwrap();
    }
    let lines =
        |odd: usize| LINES.iter().skip(odd).step_by(2).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(folder.path().join("en"), lines(0)).unwrap();
    fs::write(folder.path().join("de"), lines(1)).unwrap();
    folder
}

/// A plan for the test set `en` and `de` in a folder.
pub fn plan(folder: &Path) -> ReportPlan {
    ReportPlan {
        source: folder.join("en"),
        reference: folder.join("de"),
        sentences: None,
        steps: vec![1, 4],
        length_beams: vec![1, 3],
        beams: vec![1, 2],
        buckets: vec![6, 8],
        resamples: 50,
        seed: 1,
        timed_sentences: 3,
        timing_rounds: 2,
        batch_tokens: 256,
        dtype: Dtype::Q8,
        shortlist: true,
        lm: true,
    }
}

fn report(folder: &TempDir, names: &[(&str, &str)]) -> Report {
    let plan = plan(folder.path());
    let open = |(name, path): &(&str, &str)| {
        ReportModel::open(Some(name), &folder.path().join(path), &plan).unwrap()
    };
    let models: Vec<ReportModel> = names.iter().map(open).collect();
    let mut told = 0;
    let report = run(&plan, &models, |_| told += 1).unwrap();
    assert_eq!(told, report.rows.len());
    report
}

#[test]
fn every_model_is_measured_with_every_decoding_and_compared_with_the_first() {
    let report = report(&models(), &[("first", "one"), ("second", "two")]);
    let setups = [(1, 1), (4, 1), (1, 3), (4, 3)]
        .map(|(steps, length_beam)| DecodingSetup::Steps { steps, length_beam });
    let own = |name: &str| -> Vec<&Row> { report.rows.iter().filter(|row| row.model == name).collect() };
    for name in ["first", "second"] {
        assert_eq!(own(name).iter().map(|row| row.setup).collect::<Vec<_>>(), setups);
    }
    assert!(own("first").iter().all(|row| row.against.is_none()));
    for (row, first) in own("second").iter().zip(own("first")) {
        let against = row.against.as_ref().unwrap();
        assert_eq!((against.model.as_str(), against.setup), ("first", first.setup));
        assert!((against.chrf_difference - (row.chrf - first.chrf)).abs() < 1e-12);
        assert!(against.chrf_p_value > 0.0 && against.chrf_p_value <= 1.0);
    }
    for row in &report.rows {
        assert!(row.latency_p50_ms > 0.0 && row.latency_p50_ms <= row.latency_p90_ms, "{row:?}");
        assert_eq!((row.timed_sentences, row.bucket_bleu.len()), (3, 3));
    }
    assert_eq!(report.buckets.iter().map(|bucket| bucket.sentences).sum::<usize>(), 4);
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let report = report(&models(), &[("one", "one"), ("again", "one")]);
    for row in report.rows.iter().filter(|row| row.model == "again") {
        let against = row.against.as_ref().unwrap();
        assert_eq!((against.bleu_difference, against.bleu_p_value), (0.0, 1.0));
    }
}

#[test]
fn the_numbers_are_those_of_evaluate() {
    let folder = models();
    let report = report(&folder, &[("one", "one")]);
    let bundle = Bundle::open(&folder.path().join("one")).unwrap();
    let network =
        tutti::decode::InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::Q8)).unwrap();
    let (en, de) = (folder.path().join("en"), folder.path().join("de"));
    let set = tutti::train::data::test_set::TestSet::read(&en, &de, usize::MAX).unwrap();
    for row in &report.rows {
        let DecodingSetup::Steps { steps, length_beam } = row.setup else { panic!("{:?}", row.setup) };
        let steps = tutti::decode::Steps::new(steps as u8).unwrap();
        let done = tutti::train::measure::evaluate::evaluate(
            &network,
            &bundle.reader(),
            &set,
            steps,
            length_beam,
            256,
        );
        let measured = done.unwrap().scores;
        assert_eq!((row.bleu, row.chrf), (measured.bleu, measured.chrf), "{:?}", row.setup);
        assert_eq!(row.repetition_rate, measured.repetition_rate);
    }
}

#[test]
fn a_model_that_reads_from_left_to_right_has_beams_and_is_compared_with_the_nearest_there_is() {
    let folder = models();
    let bundle = Bundle::open(&folder.path().join("one")).unwrap();
    let config = Config { architecture: tutti::model::Architecture::Ar, ..bundle.config.clone() };
    Bundle::save(&folder.path().join("ar"), &config, &TOKENIZER, bundle.tensors(), "Random weights.\n")
        .unwrap();
    let report = report(&folder, &[("ar", "ar"), ("two", "two")]);
    let setups: Vec<DecodingSetup> =
        report.rows.iter().filter(|row| row.model == "ar").map(|row| row.setup).collect();
    assert_eq!(setups, [DecodingSetup::Beam(1), DecodingSetup::Beam(2)]);
    for row in report.rows.iter().filter(|row| row.model == "two") {
        assert_eq!(
            row.against.as_ref().unwrap().setup,
            DecodingSetup::Beam(2),
            "there are no steps to compare with"
        );
    }
    report.write(&folder.path().join("report")).unwrap();
    let table = fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(table.contains("| ar | greedy |") && table.contains("(beam 2)"), "{table}");
}

#[test]
fn table_plot_and_numbers_are_written_and_say_the_same() {
    let folder = models();
    let report = report(&folder, &[("a|b", "one"), ("<two>", "two")]);
    let output = folder.path().join("new/report");
    report.write(&output).unwrap();
    let table = fs::read_to_string(output.join("report.md")).unwrap();
    let header = table.lines().find(|line| line.starts_with("| model | decoding | BLEU |")).unwrap();
    let unescaped = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows: Vec<&str> =
        table.lines().filter(|line| line.contains(" ± ") && line.starts_with('|')).collect();
    assert_eq!(rows.len(), report.rows.len());
    for (line, row) in rows.iter().zip(&report.rows) {
        assert_eq!(unescaped(line), unescaped(header), "{line}");
        assert!(line.contains(&format!("| {} | {:.2} ± ", row.setup, row.bleu)), "{line}");
    }
    assert!(table.contains("(quality.svg)") && table.contains("up to 6") && table.contains("9 and more"));

    let plot = fs::read_to_string(output.join("quality.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
    assert!(plot.contains("&lt;two&gt;"), "a name is text, not markup");
    assert!(plot.matches("<polyline").count() >= 2, "a curve for each model");
    assert!(plot.contains("Curves: one target length"), "what is drawn of 1 and 3 lengths");

    let json: Value = serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), report.rows.len());
    assert_eq!(json["rows"][5]["against"]["model"], "a|b");
}

#[test]
fn what_cannot_be_reported_on_is_refused_by_name() {
    let folder = models();
    let refused = |change: &dyn Fn(&mut ReportPlan)| {
        let mut plan = plan(folder.path());
        change(&mut plan);
        let models = [ReportModel::open(None, &folder.path().join("one"), &plan).unwrap()];
        run(&plan, &models, |_| ()).unwrap_err().to_string()
    };
    assert!(refused(&|plan| plan.steps = vec![1, 0]).contains("--steps"));
    assert!(refused(&|plan| plan.length_beams.clear()).contains("--length-beam"));
    assert!(refused(&|plan| plan.buckets = vec![9, 4]).contains("--buckets"));
    fs::write(folder.path().join("short"), "Hallo.\n").unwrap();
    let short = folder.path().join("short");
    assert!(refused(&|plan| plan.reference = short.clone()).contains("short:2:"));
}

/// A line over the network's limit is cut, and its spans come back, as they do from the server.
#[test]
fn a_long_line_with_spans_is_scored_as_it_is_translated() {
    let folder = models();
    let url = "https://tutti.example/start";
    fs::write(folder.path().join("en"), format!("{}{url}\n", "the train station, ".repeat(60))).unwrap();
    fs::write(folder.path().join("de"), format!("{url}\n")).unwrap();
    let bundle = Bundle::open(&folder.path().join("one")).unwrap();
    let model = ReportModel::open(None, &folder.path().join("one"), &plan(folder.path())).unwrap();
    let source = fs::read_to_string(folder.path().join("en")).unwrap();
    let mut passages = [bundle.reader().read(source.trim())];
    let setup = DecodingSetup::Steps { steps: 1, length_beam: 1 };
    model.translator.translate(setup, &mut passages, 256).unwrap();
    assert_eq!(passages[0].text().matches(url).count(), 1);

    let plan = ReportPlan { buckets: Vec::new(), ..plan(folder.path()) };
    let report = run(&plan, &[model], |_| ()).unwrap();
    assert!(report.rows.iter().all(|row| row.chrf > 0.0), "the address is found again");
    let set = tutti::train::data::test_set::TestSet::read(&plan.source, &plan.reference, 1).unwrap();
    let network =
        tutti::decode::InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::Q8)).unwrap();
    let one = tutti::decode::Steps::ONE;
    let done =
        tutti::train::measure::evaluate::evaluate(&network, &bundle.reader(), &set, one, 1, 256).unwrap();
    assert_eq!(done.texts, [passages[0].text()]);
}
