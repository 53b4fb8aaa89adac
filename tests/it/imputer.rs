//! An Imputer on the toy corpus, from its first update to an answer over HTTP.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tutti::decode::{InferenceModel, Steps};
use tutti::model::{Architecture, Backend, Bundle, Dtype, Lengths};
use tutti::train::bundle::calibrate::{Calibration, calibrate};
use tutti::train::config::Config;
use tutti::train::config::OnBadLine;
use tutti::train::data::test_set::TestSet;
use tutti::train::measure::evaluate::evaluate;
use tutti::train::measure::report::{self, DecodingSetup, ReportModel};
use tutti::train::stages::{dims, parallel};
use tutti::train::update::run::End;

use crate::process::serve_with;
use crate::report::plan;
use crate::support::{en_de, in_time};
use crate::toy::{Toy, assert_resumes_exactly};

const IMPUTER: &str = "[imputer]\nmask = \"block\"";

fn train(config: &Config) -> End {
    parallel::run(config, &AtomicBool::new(false)).unwrap()
}

#[test]
fn a_run_that_is_stopped_and_resumed_equals_one_that_is_not() {
    assert_resumes_exactly(&Toy::new(), IMPUTER);
}

#[test]
fn a_pair_that_its_slots_cannot_hold_is_a_bad_line() {
    let toy = Toy::new();
    let add = |file: &str, line: &str| {
        let path = toy.path(file);
        fs::write(&path, fs::read_to_string(&path).unwrap() + line).unwrap();
    };
    add("en", "home\n");
    add("de", "nach Hause nach Hause das Meer\n");
    let mut config = toy.config("run", &format!("updates = 1\n{IMPUTER}"));
    let error = parallel::run(&config, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("de:31") && error.contains("14 slots"), "{error}");
    config.data.on_bad_line = OnBadLine::Skip;
    train(&config);
    let log = fs::read_to_string(toy.path("run/log.jsonl")).unwrap();
    let start: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(
        (start["pairs"].as_u64(), start["skipped"]["unaligned"].as_u64()),
        (Some(30), Some(1)),
        "{start}"
    );
}

#[test]
fn a_penalty_of_the_blank_is_in_the_bundle_and_not_in_the_training() {
    let toy = Toy::new();
    let blank_bias = |run: &str| {
        let bundle = Bundle::open(&toy.path(run)).unwrap();
        let bias = bundle.tensors()["output.bias"].to_vec1::<f32>().unwrap();
        bias[bundle.config.specials.blank() as usize]
    };
    train(&toy.config("plain", &format!("updates = 2\n{IMPUTER}")));
    train(&toy.config("penalised", &format!("updates = 2\n{IMPUTER}\nblank_penalty = 0.5")));
    let plain = blank_bias("plain/bundle");
    assert!((plain - 0.5 - blank_bias("penalised/bundle")).abs() < 1e-3);
    let checkpoint =
        |run: &str| fs::read(toy.path(run).join("checkpoints/update-00000002/model.safetensors")).unwrap();
    assert!(checkpoint("plain") == checkpoint("penalised"), "what is trained knows nothing of it");

    // The same for an existing bundle, whose other content is kept.
    let bundle = Bundle::open(&toy.path("plain/bundle")).unwrap();
    fs::write(bundle.dir.join(Bundle::CARD), "# Of its own\n").unwrap();
    let calibration = Calibration { blank_penalty: 0.5, ..Calibration::NONE };
    calibrate(&bundle, calibration, None, &toy.path("again")).unwrap();
    assert!((plain - 0.5 - blank_bias("again")).abs() < 1e-3);
    let card = fs::read_to_string(toy.path("again").join(Bundle::CARD)).unwrap();
    assert!(card.starts_with("# Of its own\n") && card.contains("blank penalty 0.5"), "{card}");
    let error = calibrate(&bundle, calibration, None, &bundle.dir).unwrap_err().to_string();
    assert!(error.contains("choose another folder"), "{error}");
}

#[test]
fn it_can_start_from_a_cmlm_and_vice_versa() {
    let toy = Toy::new();
    toy.run("cmlm", 2);
    toy.begin("imputer", "cmlm/bundle", IMPUTER).unwrap();
    let tensors = |run: &str| -> HashMap<String, Vec<Vec<f32>>> {
        let bundle = Bundle::open(&toy.path(run)).unwrap();
        let rows = bundle.tensors().iter().filter(|(_, t)| t.dims().len() == 2);
        rows.map(|(name, t)| (name.clone(), t.to_vec2().unwrap())).collect()
    };
    let (cmlm, imputer) = (tensors("cmlm/bundle"), tensors("imputer/bundle"));
    let (own, stretched) = (&cmlm["decoder.positions.weight"], &imputer["decoder.positions.weight"]);
    assert_eq!((own.len(), stretched.len()), (32, 64));
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(stretched.iter().enumerate().all(|(slot, row)| near(row, &own[slot / 2])));
    assert!(near(&imputer["embedding.weight"][9], &cmlm["embedding.weight"][9]));
    assert!(!imputer.contains_key("length.weight"));

    toy.begin("back", "imputer/bundle", "").unwrap();
    let back = tensors("back/bundle");
    let positions = back["decoder.positions.weight"].iter().zip(stretched.iter().step_by(2));
    assert!(positions.clone().count() == 32 && positions.into_iter().all(|(row, slot)| near(row, slot)));
    assert!(near(&back["embedding.weight"][9], &imputer["embedding.weight"][9]));
    assert!(back.contains_key("length.weight"));
}

#[test]
fn an_imputer_and_a_cmlmc_at_once_are_refused() {
    let toy = Toy::new();
    toy.config("run", "updates = 1"); // writes the file
    let error =
        Config::read(&toy.path("run.toml"), &["imputer.mask=full".into(), "cmlmc.corrected=0.3".into()]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("[cmlmc]") && error.contains("[imputer]"), "{error}");
    let error = Config::read(&toy.path("run.toml"), &["imputer.mask=most".into()]).unwrap_err().to_string();
    assert!(error.contains("most") && error.contains("block"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_learns_the_toy_language_its_steps_are_distilled_and_the_server_answers_with_it() {
    let toy = Toy::new();
    let settings = format!("updates = 700\ndropout = 0.0\n{IMPUTER}");
    train(&toy.config("learnt", &settings));
    let bundle = Bundle::open(&toy.path("learnt/bundle")).unwrap();
    assert_eq!(bundle.config.architecture, Architecture::Imputer);
    assert_eq!((bundle.config.shape.lengths, bundle.config.shape.source_limit()), (Lengths::Ctc, 32));
    let set = TestSet::read(&toy.path("en"), &toy.path("de"), usize::MAX).unwrap();
    let bleu = |bundle: &Bundle, dtype, steps, beam| {
        let network = InferenceModel::open(bundle, &Backend::cpu().with_dtype(dtype)).unwrap();
        let steps = Steps::new(steps).unwrap();
        let done = evaluate(&network, &bundle.reader(), &set, steps, beam, 512).unwrap();
        (done.scores.bleu, done.texts)
    };
    for (dtype, steps) in [(Dtype::F32, 1), (Dtype::F32, 4), (Dtype::Q8, 1), (Dtype::Q8, 4)] {
        let (bleu, texts) = bleu(&bundle, dtype, steps, 1);
        assert!(bleu > 85.0, "{dtype:?}, {steps} steps: {bleu} {texts:?}");
    }

    // The report scores the server's answers, in which a token may occur twice.
    let plan = plan(&toy.path(""));
    let models = [ReportModel::open(Some("imputer"), &toy.path("learnt/bundle"), &plan).unwrap()];
    let report = report::run(&plan, &models, |_| ()).unwrap();
    for row in &report.rows {
        let DecodingSetup::Steps { steps, length_beam } = row.setup else { panic!("{:?}", row.setup) };
        assert_eq!(row.bleu, bleu(&bundle, Dtype::Q8, steps as u8, length_beam).0, "{:?}", row.setup);
    }

    for (name, more) in [("dims", ""), ("u", "unsupervised = true\nteacher_dtype = \"q8\"")] {
        let own = toy.path(name);
        let more = format!(
            "{settings}\n[dims]\noutput = \"{}\"\nupdates = 4\nmask = \"mixed\"\nsteps = 3\nvalidate_every = 4\n{more}",
            own.display()
        );
        dims::run(&toy.config("learnt", &more), &AtomicBool::new(false)).unwrap();
        let student = Bundle::open(&own.join("bundle")).unwrap();
        assert_eq!(student.config.shape, bundle.config.shape);
        assert!(toy.logged(name, "train", "hidden_loss").iter().all(|loss| *loss > 0.0));
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear();
    let (_server, url) = serve_with(command, toy.path("learnt/bundle").to_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;
    let ask = async |query: &str| -> Value {
        let request = client.post(format!("{url}/translate?{query}")).json(&en_de("the dog sleeps."));
        request.send().await.unwrap().json().await.unwrap()
    };
    let one = in_time(ask("steps=1")).await;
    assert_eq!(one["translatedText"], "der Hund schläft.", "{one}");
    assert_eq!(one["meta"]["steps"]["used"], 1, "{one}");
    assert_eq!(one["meta"]["length_beam"], 1, "slots need no second guess: {one}");
    let several = in_time(ask("steps=1&length_beam=3")).await;
    assert_eq!(several["meta"]["length_beam"], 3, "{several}");
    assert!(!several["translatedText"].as_str().unwrap().is_empty());
    let traced = in_time(ask("steps=4&trace=true")).await;
    let trace = traced["meta"]["sentences"][0]["trace"].as_array().unwrap();
    assert_eq!(trace.len(), 4, "{traced}");
    let count = |canvas: &Value, place: char| canvas.as_str().unwrap().matches(place).count();
    assert!(count(&trace[0], '_') > count(&trace[2], '_') && count(&trace[3], '_') == 0, "{traced}");
}
