use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn content(folder: &Path) -> String {
    fs::read_to_string(folder.join("content")).unwrap()
}

fn fill(text: &str) -> impl FnOnce(&Path) -> Result<()> {
    move |folder| write(&folder.join("content"), text.as_bytes())
}

#[test]
fn a_file_is_replaced_without_leftovers() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("new/folder/file");
    write(&path, b"old").unwrap();
    write(&path, b"new").unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(parent(&path))), (b"new".to_vec(), vec!["file".into()]));
    assert_eq!(checksum(&path).unwrap(), digest(b"new"));
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_one_and_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    write(&path, b"old").unwrap();
    fs::create_dir(root.path().join(".file.unfinished")).unwrap();
    let error = write(&path, b"new").unwrap_err().to_string();
    assert!(error.contains("/file:"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_folder_takes_the_place_of_another() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("deep/folder");
    for text in ["one", "two"] {
        replace_folder(&dir, fill(text)).unwrap();
        assert_eq!((content(&dir), names(dir.parent().unwrap())), (text.into(), vec!["folder".into()]));
    }
}

#[test]
fn a_folder_that_cannot_be_filled_leaves_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("folder");
    replace_folder(&dir, fill("old")).unwrap();
    let failing = |folder: &Path| {
        fill("half")(folder)?;
        Err(Error::Config("no more".into()))
    };
    assert!(replace_folder(&dir, failing).unwrap_err().to_string().contains("no more"));
    assert_eq!((content(&dir), names(root.path())), ("old".into(), vec!["folder".into()]));
}

#[test]
fn without_exchange_the_folder_is_found_after_each_step() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("folder");
    let (fresh, aside) = (sibling_temp(&dir, "unfinished").unwrap(), sibling_temp(&dir, "replaced").unwrap());
    replace_folder(&dir, fill("old")).unwrap();
    fs::create_dir(&fresh).unwrap();
    fill("new")(&fresh).unwrap();

    // A crash after the first rename.
    fs::rename(&dir, &aside).unwrap();
    assert_eq!(content(&resolve_current(&dir)), "old");
    recover(&dir, &aside).unwrap();
    assert_eq!((content(&dir), aside.exists()), ("old".into(), false));

    // A crash after the second.
    swap_in_two_steps(&fresh, &dir, &aside).unwrap();
    assert_eq!((content(&resolve_current(&dir)), content(&aside)), ("new".into(), "old".into()));
    replace_folder(&dir, fill("newer")).unwrap();
    assert_eq!((content(&dir), names(root.path())), ("newer".into(), vec!["folder".into()]));
}

#[test]
fn what_a_dead_writer_left_is_cleared() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("folder");
    fs::create_dir(root.path().join(".folder.unfinished")).unwrap();
    fs::write(root.path().join(".folder.unfinished/garbage"), "half").unwrap();
    replace_folder(&dir, fill("new")).unwrap();
    assert_eq!((names(&dir), names(root.path())), (vec!["content".into()], vec!["folder".into()]));
}

/// The folder is read continuously while it is replaced, and never missing.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_always_finds_the_folder_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("folder");
    replace_folder(&dir, fill("text")).unwrap();
    let (probe, aside) = (sibling_temp(&dir, "probe").unwrap(), root.path().join("aside"));
    fs::create_dir(&probe).unwrap();
    fs::create_dir(&aside).unwrap();
    if exchange(&probe, &aside).is_err() {
        return; // this file system cannot exchange names; the test above covers it
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0u64;
            while !done.load(Ordering::Relaxed) || looks == 0 {
                assert!(dir.is_dir(), "gone after {looks} looks");
                looks += 1;
            }
        });
        for _ in 0..50 {
            replace_folder(&dir, fill("text")).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_folder_is_removed_and_an_interrupted_removal_is_repaired() {
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| root.path().join(name);
    for name in ["kept", "gone", ".half.unfinished", ".old.replaced", ".new.replaced", "new"] {
        fs::create_dir(dir(name)).unwrap();
    }
    remove_folder(&dir("gone")).unwrap();
    recover_all(root.path()).unwrap();
    let mut left = names(root.path());
    left.sort();
    assert_eq!(left, ["kept", "new", "old"]);
    assert!(remove_folder(&dir("gone")).is_err());
}
