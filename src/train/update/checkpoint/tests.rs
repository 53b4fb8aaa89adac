use std::collections::HashMap;

use super::*;

fn tensors(value: f32) -> Tensors {
    let tensor = Tensor::from_slice(&[value, 2.0, 3.0], (1, 3), &Device::Cpu).unwrap();
    HashMap::from([("w".to_owned(), tensor)])
}

fn checkpoint(update: u64, score: Option<f64>) -> Checkpoint {
    let state = State {
        update,
        position: Position { epoch: 1, index: 7 },
        seed: 42,
        skipped: 1,
        score,
        best: BTreeMap::from([("bleu_4".to_owned(), 12.5)]),
        validations_without_gain: 0,
        config: "[train]\nseed = 42\n".into(),
    };
    Checkpoint { model: tensors(update as f32), ema: None, optimizer: tensors(0.5), state }
}

fn row(tensors: &Tensors) -> Vec<f32> {
    tensors["w"].flatten_all().unwrap().to_vec1().unwrap()
}

fn updates(store: &Store) -> Vec<u64> {
    store.list().unwrap().into_keys().collect()
}

#[test]
fn a_checkpoint_is_read_as_it_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2, 0).unwrap();
    assert_eq!(store.last().unwrap(), None);
    let saved = Checkpoint { ema: Some(tensors(9.0)), ..checkpoint(1_234, Some(f64::from(0.1f32))) };
    let path = store.save(&saved).unwrap();
    assert_eq!(path.file_name().unwrap(), "update-00001234");
    assert_eq!(store.last().unwrap(), Some(path.clone()));
    let loaded = Checkpoint::load(&path, &Device::Cpu).unwrap();
    assert_eq!(loaded.state, saved.state);
    assert_eq!(row(&loaded.model), [1_234.0, 2.0, 3.0]);
    assert_eq!(row(&loaded.ema.unwrap()), [9.0, 2.0, 3.0]);
    assert_eq!(row(&loaded.optimizer), [0.5, 2.0, 3.0]);
}

#[test]
fn the_last_and_the_best_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2, 2).unwrap();
    let scores = [Some(3.0), Some(9.0), None, Some(5.0), Some(9.0), Some(1.0), Some(2.0)];
    for (update, score) in (1..).zip(scores) {
        store.save(&checkpoint(update, score)).unwrap();
    }
    assert_eq!(updates(&store), [2, 5, 6, 7]);
    let best = store.best(9).unwrap();
    assert_eq!(file_name(&best[0]), "update-00000002");
    assert_eq!(file_name(&best[1]), "update-00000005");
    assert_eq!(best.len(), 4);
}

#[test]
fn saving_an_update_again_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2, 0).unwrap();
    store.save(&checkpoint(5, Some(1.0))).unwrap();
    let path = store.save(&checkpoint(5, Some(2.0))).unwrap();
    assert_eq!(read_state(&path).unwrap().score, Some(2.0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_save_is_not_a_checkpoint_and_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join(".update-00000009.unfinished");
    fs::create_dir(&half).unwrap();
    fs::write(half.join(MODEL), b"half").unwrap();
    fs::create_dir(dir.path().join("samples")).unwrap();
    let store = Store::open(dir.path(), 1, 0).unwrap();
    assert_eq!(store.last().unwrap(), None);
    assert!(!half.exists() && dir.path().join("samples").exists());
}

#[test]
fn a_replacement_that_was_interrupted_leaves_the_old_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = Store::open(dir.path(), 1, 0).unwrap().save(&checkpoint(5, Some(1.0))).unwrap();
    let aside = dir.path().join(".update-00000005.replaced");
    fs::rename(&path, &aside).unwrap();
    let store = Store::open(dir.path(), 1, 0).unwrap();
    assert_eq!((store.last().unwrap(), aside.exists()), (Some(path), false));
}

#[test]
fn a_cut_or_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = Store::open(dir.path(), 1, 0).unwrap().save(&checkpoint(1, None)).unwrap();
    let error = || Checkpoint::load(&path, &Device::Cpu).unwrap_err().to_string();
    let weights = path.join(MODEL);
    let complete = fs::read(&weights).unwrap();
    fs::write(&weights, &complete[..complete.len() - 4]).unwrap();
    assert!(error().contains(MODEL) && error().contains("not a complete"), "{}", error());
    fs::write(&weights, complete).unwrap();
    fs::write(path.join(STATE), b"{\"update\": 1}").unwrap();
    assert!(error().contains(STATE) && error().contains("position"), "{}", error());
    fs::remove_file(path.join(OPTIMIZER)).unwrap();
    assert!(error().contains(OPTIMIZER), "{}", error());
}

#[test]
fn restoring_sets_every_variable_or_none() {
    let var = |shape: &[usize]| Var::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let file = Path::new("model.safetensors");
    let vars = BTreeMap::from([("w".to_owned(), var(&[1, 3]))]);
    restore(&vars, &tensors(7.0), file).unwrap();
    assert_eq!(vars["w"].to_vec2::<f32>().unwrap(), [[7.0, 2.0, 3.0]]);

    let error = |vars: &BTreeMap<String, Var>| restore(vars, &tensors(8.0), file).unwrap_err().to_string();
    let more = BTreeMap::from([("w".to_owned(), var(&[1, 3])), ("x".to_owned(), var(&[1]))]);
    assert!(error(&more).contains("no tensor x"));
    assert_eq!(more["w"].to_vec2::<f32>().unwrap(), [[0.0; 3]]);
    let wide = BTreeMap::from([("w".to_owned(), var(&[1, 4]))]);
    assert!(error(&wide).contains("[1, 3], expected [1, 4]"), "{}", error(&wide));
    assert!(error(&BTreeMap::new()).contains("tensor w belongs to no parameter"));
}

#[test]
fn an_average_is_the_mean_of_each_weight() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9, 0).unwrap();
    let paths: Vec<PathBuf> = [1, 2, 6].map(|update| store.save(&checkpoint(update, None)).unwrap()).into();
    assert_eq!(row(&average(&paths).unwrap()), [3.0, 2.0, 3.0]);
    let file = paths[2].join(MODEL);
    assert_eq!(row(&average(std::slice::from_ref(&file)).unwrap()), [6.0, 2.0, 3.0]);
    assert!(average(&[]).is_err());

    let other = HashMap::from([("w".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
    safetensors::save(&other, &file).unwrap();
    let error = average(&paths).unwrap_err().to_string();
    assert!(error.contains("update-00000006") && error.contains("tensor w has shape [1]"), "{error}");
}

#[test]
fn the_digest_follows_the_configuration() {
    let state = checkpoint(1, None).state;
    let other = State { config: "[train]\nseed = 43\n".into(), ..state.clone() };
    assert_eq!(state.config_digest().len(), 64);
    assert_ne!(state.config_digest(), other.config_digest());
}
