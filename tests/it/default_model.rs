//! The models in the repository, through the built program: what the README promises.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tokio::task::JoinSet;
use tutti::decode::{DecodeOptions, InferenceModel, Steps};
use tutti::lines::translate_lines;
use tutti::model::{Backend, Bundle, Dtype, Stored};
use tutti::text::ReadOptions;
use tutti::train::bundle::calibrate::{Calibration, calibrate};

use crate::process::serve_with;
use crate::support::{en_de, in_time};

const SUBJECTS: [&str; 5] = ["I", "The old man", "My sister", "Tom and Mary", "The children in our street"];
const REST: [&str; 5] = [
    "don't know.",
    "would like to drink a cup of tea.",
    "went to Boston last year, but nobody knows why.",
    "must learn that there is always another way to say what you mean when you are far from home.",
    "came home. It was late! Where were the others?",
];

fn folder() -> PathBuf {
    folder_of("en-de")
}

fn folder_of(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models").join(model)
}

/// All pairs of subject and rest.
fn texts() -> Vec<String> {
    SUBJECTS.iter().flat_map(|s| REST.map(|r| format!("{s} {r}"))).collect()
}

fn network(bundle: &Bundle) -> InferenceModel {
    InferenceModel::open(bundle, &Backend::cpu().with_dtype(Dtype::default())).unwrap()
}

fn translated(network: &InferenceModel, bundle: &Bundle, text: &str, options: DecodeOptions) -> String {
    let mut german = Vec::new();
    translate_lines(
        text.as_bytes(),
        &mut german,
        network,
        &bundle.reader(),
        ReadOptions::default(),
        &[options],
        |line, reason| panic!("line {line}: {reason}"),
    )
    .unwrap();
    String::from_utf8(german).unwrap()
}

#[test]
fn the_station_is_asked_for_in_both_languages() {
    for (model, text, start, name) in [
        ("en-de", "Where is the train station?", "Wo ist", "Bahnhof"),
        ("de-en", "Wo ist der Bahnhof?", "Where is", "station"),
    ] {
        let bundle = Bundle::open(&folder_of(model)).unwrap();
        let options = DecodeOptions::new(Steps::new(bundle.config.default_steps).unwrap());
        let said = translated(&network(&bundle), &bundle, text, options);
        assert!(said.starts_with(start) && said.contains(name) && said.ends_with('?'), "{said}");
    }
}

#[test]
fn a_copy_in_eight_bits_is_smaller_than_f16_and_translates_the_same() {
    let (shipped, root) = (Bundle::open(&folder()).unwrap(), tempfile::tempdir().unwrap());
    let copied = |of: &Bundle, stored: Stored, name: &str| {
        let dir = root.path().join(name);
        calibrate(of, Calibration::NONE, Some(stored), &dir).unwrap();
        let copy = Bundle::open(&dir).unwrap();
        assert_eq!((copy.stored, &copy.config.scores), (stored, &of.config.scores));
        (copy, std::fs::metadata(dir.join(Bundle::WEIGHTS)).unwrap().len() as f64)
    };
    let (bundle, large) = copied(&shipped, Stored::F16, "f16");
    let (copy, small) = copied(&bundle, Stored::Q8, "q8");
    let values = bundle.tensors().values().map(|tensor| tensor.elem_count()).sum::<usize>() as f64;
    assert!(small < 1.6 * values && large > 2.0 * values, "{small} and {large} bytes for {values} weights");
    let text = texts().join("\n");
    for steps in [1, 4] {
        let options = DecodeOptions::new(Steps::new(steps).unwrap());
        let of = |bundle: &Bundle| translated(&network(bundle), bundle, &text, options);
        assert_eq!(of(&bundle), of(&copy));
    }
}

#[test]
fn the_cards_and_the_scores_are_there_and_the_bundles_are_small() {
    for folder in ["en-de", "de-en"].map(folder_of) {
        let bundle = Bundle::open(&folder).unwrap();
        let scores = &bundle.config.scores;
        assert_eq!(scores.iter().map(|score| score.steps).collect::<Vec<_>>(), [1, 2, 4, 10]);
        let card = std::fs::read_to_string(folder.join(Bundle::CARD)).unwrap();
        for said in [
            "CC BY-SA 4.0",
            "ATTRIBUTION.md",
            "tatoeba.org",
            "manythings.org",
            "train parallel",
            "train lm",
            "BLEU",
        ] {
            assert!(card.contains(said), "the model card must say {said:?}");
        }
        let attribution = std::fs::read_to_string(folder.join("ATTRIBUTION.md")).unwrap();
        for source in ["Microsoft", "MDN Web Docs", "Adobe", "LibreOffice", "Cataclysm", "tatoeba.org"] {
            assert!(attribution.to_lowercase().contains(&source.to_lowercase()), "{source} is not named");
        }
        assert!(folder.join("LICENSE").is_file());
        for score in scores {
            assert!(card.contains(&format!("{:.2}", score.bleu)), "the card has {:.2} BLEU", score.bleu);
        }
        let size = |name: &str| std::fs::metadata(folder.join(name)).unwrap().len();
        let model = [Bundle::WEIGHTS, Bundle::CONFIG, Bundle::TOKENIZER, Bundle::CARD];
        let beside = [Bundle::SHORTLIST, Bundle::LM];
        assert!(model.into_iter().chain(beside).map(size).sum::<u64>() < 30_000_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_mixed_requests_at_once_get_what_translate_says_to_each_alone() {
    const REQUESTS: usize = 200;
    const LENGTH_BEAM: usize = 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear();
    let (_server, url) = serve_with(command, folder().to_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;

    let texts = texts();
    let ask = |i: usize| (texts[i % texts.len()].clone(), [1, 2, 4, 10][i / texts.len() % 4]);
    let mut requests = JoinSet::new();
    for i in 0..REQUESTS {
        let (text, steps) = ask(i);
        let request = client
            .post(format!("{url}/translate?steps={steps}&length_beam={LENGTH_BEAM}"))
            .json(&en_de(text));
        requests.spawn(async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            let answer: Value = response.json().await.unwrap();
            (i, answer["translatedText"].as_str().unwrap().to_owned())
        });
    }
    let mut answers = vec![String::new(); REQUESTS];
    while let Some(done) = in_time(requests.join_next()).await {
        let (i, answer) = done.unwrap();
        answers[i] = answer;
    }

    let bundle = Bundle::open(&folder()).unwrap();
    let network = network(&bundle);
    for (i, answer) in answers.iter().enumerate() {
        let (text, steps) = ask(i);
        let options =
            DecodeOptions { length_beam: LENGTH_BEAM, ..DecodeOptions::new(Steps::new(steps).unwrap()) };
        let alone = translated(&network, &bundle, &text, options);
        assert_eq!(answer, &alone, "{text} at {steps} steps");
    }
}
