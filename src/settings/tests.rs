use super::*;

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(Some(&path), pairs(environment), pairs(flags))
}

fn refusal(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, environment, flags).expect_err("must be refused").to_string()
}

#[test]
fn the_documented_file_has_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/server.toml");
    let documented = Settings::load(Some(&path), [], []).unwrap();
    assert_eq!(documented.to_toml(), Settings::load(None, [], []).unwrap().to_toml());
    let text = std::fs::read_to_string(path).unwrap();
    for line in toml::to_string(&Raw::default()).unwrap().lines() {
        assert!(text.lines().any(|l| l == line), "config/server.toml lacks the line {line:?}");
    }
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let settings = load(
        "max_texts = 1\nmax_body_bytes = 1\nmax_steps = 1",
        &[("TUTTI_MAX_TEXTS", "2"), ("TUTTI_MAX_BODY_BYTES", "2"), ("HOME", "/")],
        &[("max_texts", "3")],
    )
    .unwrap();
    assert_eq!(settings.http.max_texts, 3);
    assert_eq!(settings.http.max_body_bytes, 2);
    assert_eq!(settings.http.max_steps, Steps::ONE);
}

#[test]
fn every_key_of_the_file_can_be_set_by_flag_and_environment() {
    let defaults: toml::Table = toml::from_str(&toml::to_string(&Raw::default()).unwrap()).unwrap();
    for (key, value) in defaults {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let variable = format!("TUTTI_{}", key.to_ascii_uppercase());
        for settings in [load("", &[], &[(&key, &value)]), load("", &[(&variable, &value)], &[])] {
            assert!(settings.is_ok(), "{key}={value}: {:?}", settings.err());
        }
    }
    assert!(!load("", &[], &[("shortlist", "false")]).unwrap().shortlist);
    assert!(!load("", &[("TUTTI_SHORTLIST", "false")], &[]).unwrap().shortlist);
    assert!(!load("", &[("TUTTI_LM", "false")], &[]).unwrap().lm && load("", &[], &[]).unwrap().lm);
}

#[test]
fn a_misspelt_key_is_refused_in_every_source() {
    for message in [
        refusal("lissten = \"x\"", &[], &[]),
        refusal("", &[("TUTTI_LISSTEN", "x")], &[]),
        refusal("", &[], &[("lissten", "x")]),
    ] {
        assert!(message.contains("unknown key lissten; did you mean listen?"), "{message}");
    }
}

#[test]
fn variables_of_containers_and_kubernetes_are_ignored() {
    let settings = load(
        "",
        &[
            ("PORT", "9"),
            ("HOSTNAME", "pod-1"),
            ("TUTTI_PORT", "tcp://10.0.0.1:80"),
            ("TUTTI_SERVICE_HOST", "10.0.0.1"),
            ("TUTTI_PORT_80_TCP_ADDR", "10.0.0.1"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen, "127.0.0.1:8080".parse().unwrap());
}

#[test]
fn an_invalid_value_is_refused_with_its_key() {
    for (key, value) in [
        ("listen", "nowhere"),
        ("url_prefix", "translator"),
        ("url_prefix", "/a b"),
        ("url_prefix", "/health"),
        ("keep_other_languages", "perhaps"),
        ("max_texts", "0"),
        ("max_texts", "many"),
        ("max_steps", "0"),
        ("max_steps", "300"),
        ("default_length_beam", "11"),
        ("device", "gpu"),
        ("dtype", "int8"),
        ("log_format", "xml"),
        ("log", "tutti=loud"),
        ("drain_timeout_ms", "-1"),
        ("degrade_below_ms", "99999999999"),
        ("admin_listen", "nowhere"),
        ("otlp_endpoint", "collector:4318"),
        ("otlp_endpoint", "https://collector:4318"),
        ("otlp_ratio", "1.5"),
        ("otlp_ratio", "-0.5"),
        ("otlp_ratio", "nan"),
        ("otlp_ratio", "half"),
    ] {
        let message = refusal("", &[], &[(key, value)]);
        assert!(message.contains(key), "{key}={value}: {message}");
    }
}

#[test]
fn a_fraction_can_be_set_in_every_source() {
    for settings in [
        load("otlp_ratio = 0.25", &[], &[]),
        load("", &[("TUTTI_OTLP_RATIO", "0.25")], &[]),
        load("", &[], &[("otlp_ratio", "0.25")]),
    ] {
        assert_eq!(settings.unwrap().http.otlp_ratio, 0.25);
    }
    assert_eq!(load("otlp_ratio = 1", &[], &[]).unwrap().http.otlp_ratio, 1.0);
    // Other values with a point stay text.
    assert_eq!(load("", &[], &[("model", "1.5")]).unwrap().models[0].folder, Path::new("1.5"));
}

#[test]
fn host_and_port_replace_a_part_of_the_address() {
    for (listen, flags, expected) in [
        ("127.0.0.1:8080", &[("port", "9000")][..], "127.0.0.1:9000"),
        ("127.0.0.1:8080", &[("host", "0.0.0.0")], "0.0.0.0:8080"),
        ("127.0.0.1:8080", &[("host", "::"), ("port", "1")], "[::]:1"),
        ("[::1]:8080", &[("port", "2")], "[::1]:2"),
    ] {
        let settings = load(&format!("listen = {listen:?}"), &[], flags).unwrap();
        assert_eq!(settings.listen.to_string(), expected);
        assert!(settings.to_toml().contains(expected), "the log shows the effective address");
    }
    assert!(load("", &[], &[("port", "x")]).is_err());
}

#[test]
fn the_settings_in_the_log_are_a_valid_file() {
    let settings = load("", &[], &[("listen", "[::1]:1"), ("log_format", "json")]).unwrap();
    let again = load(&settings.to_toml(), &[], &[]).unwrap();
    assert_eq!(again.to_toml(), settings.to_toml());
    assert_eq!(again.log_format, LogFormat::Json);
}

/// A number that is too large is refused with its key and range; it must not cause a panic or a hang later.
#[test]
fn every_number_has_a_range() {
    let defaults: toml::Table = toml::from_str(&toml::to_string(&Raw::default()).unwrap()).unwrap();
    let numbers: Vec<String> =
        defaults.into_iter().filter(|(_, value)| value.is_integer()).map(|(key, _)| key).collect();
    assert!(numbers.len() > 20);
    for key in &numbers {
        for value in [u64::MAX, u64::MAX >> 1, u64::from(u32::MAX) << 16] {
            let message = refusal("", &[], &[(key, &value.to_string())]);
            assert!(message.contains(key.as_str()), "{key}={value}: {message}");
        }
    }
    assert_eq!(
        refusal("", &[], &[("threads", "18446744073709551615")]),
        "configuration: threads must be 0 to 1024, not 18446744073709551615"
    );
}

#[test]
fn the_tools_have_the_range_of_the_server_for_threads() {
    assert_eq!(compute_threads(0).unwrap(), one_for_each_core());
    assert_eq!(compute_threads(1024).unwrap().get(), 1024);
    let refused = compute_threads(1025).unwrap_err().to_string();
    assert_eq!(refused, refusal("", &[], &[("threads", "1025")]));
    assert!(refused.contains("threads must be 0 to 1024, not 1025"), "{refused}");
}

#[test]
fn steps_are_lowered_between_two_thresholds_of_which_the_first_is_the_higher() {
    let degrade =
        |above: &str, below: &str| load("", &[], &[("degrade_above_ms", above), ("degrade_below_ms", below)]);
    assert_eq!(degrade("0", "0").unwrap().engine.degrade, None);
    let policy = degrade("400", "0").unwrap().engine.degrade.unwrap();
    assert_eq!((policy.above, policy.below), (Duration::from_millis(400), Duration::from_millis(100)));
    assert!(degrade("400", "400").unwrap_err().to_string().contains("degrade_below_ms"));
}

#[test]
fn an_old_name_still_works_and_is_warned_about() {
    let old = "max_passed_over";
    for settings in [
        load("max_passed_over = 3", &[], &[]),
        load("", &[("TUTTI_MAX_PASSED_OVER", "3")], &[]),
        load("", &[], &[(old, "3")]),
    ] {
        let settings = settings.unwrap();
        assert_eq!(settings.engine.max_overtakes_per_step, 3);
        assert!(settings.warnings[0].contains("max_overtakes_per_step"), "{:?}", settings.warnings);
    }
    let both = load("max_passed_over = 3\nmax_overtakes_per_step = 4", &[], &[]).unwrap();
    assert_eq!(both.engine.max_overtakes_per_step, 4);
    assert!(load("max_steps = 4", &[], &[]).unwrap().warnings.is_empty());
}

#[test]
fn without_a_folder_the_built_in_models_are_served() {
    let settings = load("", &[], &[]).unwrap();
    assert!(settings.models.len() == 1 && settings.models[0].folder.as_os_str().is_empty());
    assert_eq!(load("model = \"own\"", &[], &[]).unwrap().models[0].folder, Path::new("own"));
    let message = refusal("[[models]]\nfolder = \"own\"\n[[models]]\nfolder = \"\"", &[], &[]);
    assert!(message.contains("models[1].folder"), "{message}");
}

/// Two models, of which the second has the settings for all.
const SEVERAL: &str = r#"
    device = "cpu"
    dtype = "f32"
    [[models]]
    name = "large"
    folder = "models/en-de"
    device = "cuda:1"
    dtype = "bf16"
    default_steps = 3
    weight = 3
    [[models]]
    folder = "own"
"#;

#[test]
fn several_models_share_the_threads_by_weight_and_have_settings_of_their_own() {
    let with = |threads: &str| load(SEVERAL, &[], &[("threads", threads)]).unwrap();
    let threads = |count: usize| NonZeroUsize::new(count).unwrap();
    let large = ModelSettings {
        name: Some("large".into()),
        folder: "models/en-de".into(),
        device: "cuda:1".parse().unwrap(),
        dtype: "bf16".parse().unwrap(),
        default_steps: Steps::new(3),
        threads: threads(6),
    };
    let own = ModelSettings {
        name: None,
        folder: "own".into(),
        device: "cpu".parse().unwrap(),
        dtype: "f32".parse().unwrap(),
        default_steps: None,
        threads: threads(2),
    };
    let settings = with("8");
    assert_eq!(settings.models, [large, own]);
    assert_eq!(load(&settings.to_toml(), &[], &[]).unwrap().models, settings.models);
    // Shares are rounded up.
    for (all, shares) in [("7", [6, 2]), ("1", [1, 1])] {
        let found: Vec<usize> = with(all).models.iter().map(|model| model.threads.get()).collect();
        assert_eq!(found, shares, "{all} threads");
    }
}

#[test]
fn an_invalid_setting_of_a_model_is_refused_with_its_place() {
    let own = |more: &str| format!("[[models]]\nfolder = \"own\"\n{more}\n");
    for (models, what) in [
        (own("weight = 0"), "models[0].weight must be 1 to 1000"),
        (own("") + &own("weight = 1001"), "models[1].weight must be 1 to 1000"),
        (own("") + &own("default_steps = 0"), "models[1].default_steps must be at least 1"),
        (own("device = \"gpu\""), "device \"gpu\" is unknown"),
        (own("dtype = \"int8\""), "int8"),
        (own("wieght = 2"), "unknown key wieght; did you mean weight?"),
        ("[[models]]\nname = \"own\"\n".into(), "folder"),
    ] {
        let message = refusal(&models, &[], &[]);
        assert!(message.contains(what), "{models}: {message}");
    }
}
