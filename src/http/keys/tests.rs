use super::*;

fn keys(entries: &str) -> (tempfile::TempDir, Result<Keys>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    std::fs::write(&path, entries).unwrap();
    let keys = Keys::open(&path);
    (folder, keys)
}

fn name(admitted: Result<Arc<Client>, Denied>) -> Result<String, Denied> {
    admitted.map(|client| client.name().to_owned())
}

#[test]
fn a_key_admits_only_its_own_client() {
    let ((a, entry_a), (b, entry_b)) = (new_key("a"), new_key("b \"quoted\""));
    let (_folder, keys) = keys(&format!("{entry_a}\n{entry_b}"));
    let keys = keys.unwrap();
    assert_eq!(name(keys.admit(Some(&a))), Ok("a".into()));
    assert_eq!(name(keys.admit(Some(&b))), Ok("b \"quoted\"".into()));
    assert_eq!(name(keys.admit(Some(&a.to_uppercase()))), Err(Denied::Invalid));
    assert_eq!(name(keys.admit(None)), Err(Denied::Missing));
    assert_eq!(name(keys.admit(Some(""))), Err(Denied::Missing));
}

#[test]
fn each_key_has_its_own_rate_and_quota() {
    let ((a, entry_a), (b, entry_b)) = (new_key("a"), new_key("b"));
    let limited = format!("{entry_a}requests_per_minute = 2\ncharacters_per_day = 100\n{entry_b}");
    let (_folder, keys) = keys(&limited);
    let keys = keys.unwrap();
    let client = keys.admit(Some(&a)).ok().unwrap();
    keys.admit(Some(&a)).ok().unwrap();
    let refused = name(keys.admit(Some(&a)));
    assert!(
        matches!(refused, Err(Denied::TooFast { retry_after }) if retry_after <= Duration::from_secs(30))
    );
    assert_eq!(client.charge(60), Ok(()));
    assert!(matches!(client.charge(60), Err(Denied::Quota { retry_after }) if retry_after < DAY));
    assert_eq!(client.charge(101), Err(Denied::Quota { retry_after: DAY }));
    let other = keys.admit(Some(&b)).ok().unwrap();
    assert_eq!(other.charge(1_000_000), Ok(()));
}

#[test]
fn reloading_keeps_used_quotas_and_an_invalid_file_changes_nothing() {
    let ((a, entry_a), (b, entry_b)) = (new_key("a"), new_key("b"));
    let first = format!("{entry_a}requests_per_minute = 1\n");
    let (folder, keys) = keys(&first);
    let (keys, path) = (keys.unwrap(), folder.path().join("keys.toml"));
    keys.admit(Some(&a)).ok().unwrap();
    std::fs::write(&path, format!("{first}{entry_b}")).unwrap();
    assert_eq!(keys.reload().unwrap(), 2);
    assert!(matches!(name(keys.admit(Some(&a))), Err(Denied::TooFast { .. })));
    assert_eq!(name(keys.admit(Some(&b))), Ok("b".into()));
    for broken in ["[[keys]]\nname = \"x\"\nsha256 = \"1234\"", "keys = 7", &format!("{entry_b}{entry_b}")] {
        std::fs::write(&path, broken).unwrap();
        assert!(keys.reload().unwrap_err().to_string().contains("keys.toml"));
        assert_eq!(name(keys.admit(Some(&b))), Ok("b".into()));
    }
    std::fs::write(&path, &entry_b).unwrap();
    keys.reload().unwrap();
    assert_eq!(name(keys.admit(Some(&a))), Err(Denied::Invalid));
}
