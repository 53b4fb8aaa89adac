use super::*;

#[test]
fn a_config_is_hashed_without_its_own_checksum() {
    let text = r#"{"files": {"config.json": ""}, "steps": 4}"#;
    let own = files::digest(text.as_bytes());
    let sealed = text.replace(r#""config.json": """#, &format!(r#""config.json": "{own}""#));
    assert_eq!(digest_without(&sealed, &own), own);
    assert_ne!(digest_without(&sealed.replace("4", "5"), &own), own);
}
