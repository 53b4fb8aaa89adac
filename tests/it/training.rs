//! Training on a toy corpus, through the public functions: what a run leaves behind, and that interruptions change
//! nothing.

use std::fs;
use std::sync::atomic::AtomicBool;

use tutti::decode::InferenceModel;
use tutti::model::{Backend, Bundle, Dtype, Refresh};
use tutti::train::config::Config;
use tutti::train::data::test_set::TestSet;
use tutti::train::stages::dims;
use tutti::train::stages::parallel;
use tutti::train::update::run::End;

use crate::toy::{Toy, assert_resumes_exactly, assert_same_checkpoint, assert_same_file};

#[test]
fn a_run_that_is_stopped_and_resumed_equals_one_that_is_not() {
    let toy = Toy::new();
    assert_eq!(toy.run("straight", 10), End::Finished);

    // Stopped after four updates, killed after saving the sixth, then continued.
    toy.run("stopped", 4);
    toy.run("stopped", 8);
    for late in [7, 8] {
        let _ = fs::remove_dir_all(toy.checkpoint("stopped", late));
    }
    toy.run("stopped", 10);

    assert_same_checkpoint(&toy.checkpoint("straight", 10), &toy.checkpoint("stopped", 10));
    let bundle = |run| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
    assert_same_file(&bundle("straight"), &bundle("stopped"));
}

#[test]
fn a_run_that_is_interrupted_saves_before_it_ends() {
    let toy = Toy::new();
    toy.run("run", 2);
    let config = toy.config("run", "updates = 9");
    assert_eq!(parallel::run(&config, &AtomicBool::new(true)).unwrap(), End::Interrupted);
    assert!(toy.checkpoint("run", 2).is_dir());
    assert!(!toy.checkpoint("run", 9).exists());
    assert_eq!(toy.run("run", 9), End::Finished);
}

#[test]
fn a_failed_run_logs_the_reason() {
    let toy = Toy::new();
    toy.config("run", "updates = 50\nmax_skips_in_a_row = 2");
    let config = Config::read(&toy.path("run.toml"), &["train.learning_rate=1e30".into()]).unwrap();
    let failed = parallel::run(&config, &AtomicBool::new(false)).unwrap_err().to_string();
    let text = fs::read_to_string(toy.path("run/log.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((last["event"].as_str(), last["reason"].as_str()), (Some("stop"), Some(failed.as_str())));
}

#[test]
fn another_seed_gives_other_weights_and_is_refused_in_the_same_folder() {
    let toy = Toy::new();
    toy.run("one", 2);
    let other = toy.config("two", "updates = 2\nseed = 2");
    parallel::run(&other, &AtomicBool::new(false)).unwrap();
    let weights = |run| fs::read(toy.checkpoint(run, 2).join("model.safetensors")).unwrap();
    assert!(weights("one") != weights("two"));

    let same_folder = toy.config("one", "updates = 4\nseed = 2");
    let refused = parallel::run(&same_folder, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("seed"), "{refused}");
}

#[test]
fn a_toy_language_is_learnt_and_the_bundle_translates_it() {
    let toy = Toy::new();
    let config = toy.config("learnt", "updates = 900\ndropout = 0.0");
    parallel::run(&config, &AtomicBool::new(false)).unwrap();
    let bundle = Bundle::open(&toy.path("learnt/bundle")).unwrap();
    let network = bundle.network(&Backend::cpu()).unwrap();
    let set = TestSet::read(&toy.path("en"), &toy.path("de"), usize::MAX).unwrap();
    let steps = tutti::decode::Steps::new(4).unwrap();
    let done =
        tutti::train::measure::evaluate::evaluate(&network, &bundle.reader(), &set, steps, 1, 512).unwrap();
    assert!(done.scores.bleu > 85.0, "{:?}: {:?}", done.scores, done.texts);
}

#[test]
fn the_mean_of_checkpoints_makes_a_bundle() {
    let toy = Toy::new();
    toy.run("run", 6);
    let config = toy.config("run", "updates = 6");
    let folders = [toy.checkpoint("run", 3), toy.checkpoint("run", 6)];
    parallel::write_average(&config, &folders, &toy.path("mean")).unwrap();
    let bundle = Bundle::open(&toy.path("mean")).unwrap();
    assert_ne!(bundle.checksum, Bundle::open(&toy.path("run/bundle")).unwrap().checksum);
}

#[test]
fn unequal_files_are_refused_before_anything_is_trained() {
    let toy = Toy::new();
    let text = fs::read_to_string(toy.path("de")).unwrap();
    fs::write(toy.path("de"), text.lines().skip(1).map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    let config = toy.config("run", "updates = 2");
    let refused = parallel::run(&config, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("29") && refused.contains("30"), "{refused}");
}

#[test]
fn a_distillation_that_is_stopped_and_resumed_equals_one_that_is_not() {
    let toy = Toy::with_teacher();
    let settings = |updates: u64| {
        format!("updates = {updates}\nema = 0.7\ndropout = 0.1\nvalidate_every = 4\ncheckpoint_every = 3\n")
    };
    assert_eq!(toy.distil("straight", &settings(8)), End::Finished);

    // Stopped after three updates, killed after saving the fourth, then continued.
    toy.distil("stopped", &settings(3));
    toy.distil("stopped", &settings(6));
    for late in [5, 6] {
        let _ = fs::remove_dir_all(toy.checkpoint("stopped", late));
    }
    toy.distil("stopped", &settings(8));

    assert_same_checkpoint(&toy.checkpoint("straight", 8), &toy.checkpoint("stopped", 8));
    let files = ["model.safetensors", "ema.safetensors"].map(|file| toy.checkpoint("straight", 8).join(file));
    let [student, teacher] = files.map(|file| fs::read(file).unwrap());
    assert!(student != teacher, "the teacher follows the student, it is not the student");
}

#[test]
fn an_interrupted_distillation_saves_its_teacher_and_continues() {
    let toy = Toy::with_teacher();
    let config = toy.student("student", "updates = 2");
    assert_eq!(dims::run(&config, &AtomicBool::new(true)).unwrap(), End::Interrupted);
    let start = toy.checkpoint("student", 0);
    assert_same_file(&start.join("model.safetensors"), &start.join("ema.safetensors"));
    assert_eq!(toy.distil("student", "updates = 2"), End::Finished);
    assert_eq!(toy.logged("student", "valid", "update"), [0.0, 2.0]);
    assert_eq!(Bundle::open(&toy.path("student/bundle")).unwrap().config.default_steps, 1);
}

#[test]
fn a_student_comes_closer_to_a_teacher_that_stays_as_it_is() {
    let toy = Toy::with_teacher();
    toy.distil("student", "updates = 40\nmask = \"full\"\nsteps = 4\nema = false\nlearning_rate = 3e-2\nlearning_rate_cap = 3e-3");
    let divergence = toy.logged("student", "train", "loss");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (early, late) = (mean(&divergence[..5]), mean(&divergence[35..]));
    assert!(late < 0.8 * early, "{early} to {late}");
    assert!(!toy.checkpoint("student", 40).join("ema.safetensors").exists());
}

#[test]
fn source_text_alone_is_enough_to_distil_unsupervised() {
    let toy = Toy::with_teacher();
    let mut config = toy.student("student", "updates = 3\nunsupervised = true");
    config.data.target.clear();
    assert_eq!(dims::run(&config, &AtomicBool::new(false)).unwrap(), End::Finished);
    assert!(toy.logged("student", "train", "hidden_loss").iter().all(|loss| loss.is_finite()));
    Bundle::open(&toy.path("student/bundle")).unwrap();
}

#[test]
fn in_two_rounds_the_first_student_is_the_second_teacher() {
    let toy = Toy::with_teacher();
    // The mean of all three validated checkpoints, because in so short a run none is better than the teacher.
    let settings = "updates = 4\nvalidate_every = 2\naverage_best = 3\nlearning_rate_cap = 3e-3\n";
    toy.distil("first", settings);
    let teacher = toy.path("first/bundle");
    toy.distil("second", &format!("{settings}teacher = \"{}\"", teacher.display()));
    let weights = |run: &str| toy.path(run).join("bundle").join(Bundle::WEIGHTS);
    let [teacher, first, second] = ["teacher", "first", "second"].map(|run| fs::read(weights(run)).unwrap());
    assert!(teacher != first && first != second && second != teacher);

    // Stopped in the first round, then continued; after that there is nothing to do.
    let config = toy.student("both", &format!("{settings}rounds = 2"));
    assert_eq!(dims::run(&config, &AtomicBool::new(true)).unwrap(), End::Interrupted);
    for _ in 0..2 {
        assert_eq!(dims::run(&config, &AtomicBool::new(false)).unwrap(), End::Finished);
        assert_same_file(&weights("first"), &weights("both/rounds/1"));
        assert_same_file(&weights("second"), &weights("both"));
    }
}

#[test]
fn a_teacher_for_other_languages_is_refused() {
    let toy = Toy::with_teacher();
    let mut config = toy.student("student", "");
    config.data.target_lang = "nl".into();
    let refused = dims::run(&config, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refused.contains("en to de") && refused.contains("en and nl"), "{refused}");
    assert!(!toy.path("student").exists());
}

/// All options of CMLMC, as published.
const CMLMC: &str = "[cmlmc]";

#[test]
fn a_run_of_a_cmlmc_that_is_stopped_and_resumed_equals_one_that_is_not() {
    let toy = Toy::new();
    assert_resumes_exactly(&toy, CMLMC);
}

#[test]
fn a_cmlmc_can_start_from_a_cmlm_with_the_same_predictions_but_not_vice_versa() {
    let toy = Toy::new();
    toy.run("cmlm", 60);
    let says = |run: &str| {
        let bundle = Bundle::open(&toy.path(run)).unwrap();
        let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::F32)).unwrap();
        let set = TestSet::read(&toy.path("en"), &toy.path("de"), usize::MAX).unwrap();
        let one = tutti::decode::Steps::ONE;
        tutti::train::measure::evaluate::evaluate(&network, &bundle.reader(), &set, one, 1, 512)
            .unwrap()
            .texts
    };
    let said = says("cmlm/bundle");
    let different: std::collections::HashSet<_> = said.iter().collect();
    assert!(different.len() > 5, "a network that says the same of everything shows nothing: {said:?}");
    for kind in [
        CMLMC,
        "[cmlmc]\nconcat_positions = false",
        "[cmlmc]\ncausal_attention = false",
        "[cmlmc]\ncausal_attention = false\nconcat_positions = false",
    ] {
        let output = kind.replace([' ', '\n', '='], "_");
        toy.begin(&output, "cmlm/bundle", kind).unwrap();
        assert_eq!(says(&format!("{output}/bundle")), said, "{kind}");
    }

    let error = toy.begin("back", "[cmlmc]/bundle", "").unwrap_err().to_string();
    assert!(error.contains("its shape is") && error.contains("a cmlmc with a cmlm"), "{error}");
}

#[test]
fn a_cmlmc_learns_the_toy_language_and_its_steps_are_distilled() {
    let toy = Toy::new();
    let train = format!("updates = 600\ndropout = 0.0\n{CMLMC}");
    parallel::run(&toy.config("learnt", &train), &AtomicBool::new(false)).unwrap();
    let bundle = Bundle::open(&toy.path("learnt/bundle")).unwrap();
    assert_eq!(bundle.config.shape.refresh, Refresh::All);
    let set = TestSet::read(&toy.path("en"), &toy.path("de"), usize::MAX).unwrap();
    let steps = tutti::decode::Steps::new(4).unwrap();
    for dtype in [Dtype::F32, Dtype::Q8] {
        let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(dtype)).unwrap();
        let done = tutti::train::measure::evaluate::evaluate(&network, &bundle.reader(), &set, steps, 1, 512)
            .unwrap();
        assert!(done.scores.bleu > 85.0, "{dtype:?} {:?}: {:?}", done.scores, done.texts);
    }

    let distilled = format!("{train}\n[dims]\nupdates = 4\nmask = \"full\"\nsteps = 2\nvalidate_every = 4");
    dims::run(&toy.config("learnt", &distilled), &AtomicBool::new(false)).unwrap();
    let student = Bundle::open(&toy.path("learnt/dims/bundle")).unwrap();
    assert_eq!(student.config.shape, bundle.config.shape);
    assert!(toy.logged("learnt/dims", "train", "hidden_loss").iter().all(|loss| *loss > 0.0));
}
