use super::*;

#[test]
fn a_student_of_source_text_depends_only_on_that_text() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/train/multi30k-en-de.toml");
    let roles = |unsupervised: bool| -> Vec<String> {
        let settings = [
            format!("dims.unsupervised={unsupervised}"),
            "data.distilled=elsewhere".into(),
            "pipeline={stages=[\"dims\"]}".into(),
        ];
        let stages = of(&Config::read(&file, &settings).unwrap()).unwrap();
        stages[0].sources.iter().map(|(role, _)| role.clone()).collect()
    };
    let behind = ["data.valid_source", "data.valid_target", "dims.teacher"];
    assert_eq!(roles(true), [&["data.source[0]"], &behind[..]].concat());
    assert_eq!(roles(false), [&["data.distilled, source", "data.distilled, target"], &behind[..]].concat());
}
