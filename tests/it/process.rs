//! The built program itself, on a tiny bundle with random weights.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tutti::model::{Backend, Bundle, Config, Shape, Spec};

use crate::support::{LINES, TOKENIZER, en_de, in_time};

/// A folder with the bundle `tiny`, removed when dropped.
pub fn bundle() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vocab = TOKENIZER.vocab_size();
    let shape: Shape = format!("enc=1,dec=1,d=16,ffn=32,heads=2,vocab={vocab},positions=96").parse().unwrap();
    let tensors = Spec::initial(&shape, 7, Backend::cpu().device()).unwrap();
    let config = Config::new(shape, "en", "de");
    Bundle::save(&folder.path().join("tiny"), &config, &TOKENIZER, &tensors, "Random weights.\n").unwrap();
    folder
}

pub fn tutti(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    // The environment of the machine must not affect the test.
    command.env_clear().current_dir(folder.path());
    command
}

/// Runs to the end with `input` on standard input.
pub fn run(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn translate(folder: &TempDir, flags: &[&str], input: &str) -> String {
    let mut command = tutti(folder);
    command.args(["translate", "--model", "tiny", "--threads", "1"]).args(flags);
    let output = run(command, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Kills the program when dropped.
pub struct Killed(Child);

impl Killed {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `tutti serve` on the tiny bundle.
fn serve(folder: &TempDir) -> (Killed, String) {
    serve_with(tutti(folder), "tiny")
}

/// Starts `tutti serve` on a free port and reads its address from the log.
pub fn serve_with(mut command: Command, model: &str) -> (Killed, String) {
    command.args(["--model", model, "--listen", "127.0.0.1:0", "--log-format", "json", "--threads", "1"]);
    // Long enough for slow machines: the tests are about answers, not times.
    command.args(["--set", "request_timeout_ms=300000", "--set", "drain_timeout_ms=300000"]);
    let mut child = Killed(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let address = log
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            Some(line["fields"]["address"].as_str()?.to_owned())
        })
        .expect("it says where it listens");
    // If the log is not read, the program blocks at some point.
    std::thread::spawn(move || log.for_each(drop));
    (child, format!("http://{address}"))
}

#[test]
fn wrapped_lines_come_out_in_one_where_they_are_joined() {
    let folder = bundle();
    let wrapped = "The weather is nice today, and we all go to\nthe train station.\nYes.\n";
    let joined = translate(&folder, &["--join-lines"], wrapped);
    assert_eq!(joined, translate(&folder, &[], &wrapped.replacen('\n', " ", 1)));
    assert_eq!((joined.lines().count(), translate(&folder, &[], wrapped).lines().count()), (2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_answers_every_accepted_request_and_exits_with_0() {
    const REQUESTS: usize = 120;
    let folder = bundle();
    let (mut child, url) = serve(&folder);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| client.get(format!("{url}{path}")).send().await.unwrap();
    in_time(async { while get("/readyz").await.status() != 200 {} }).await;

    let mut requests = JoinSet::new();
    for i in 0..REQUESTS {
        let (line, steps) = (LINES[i % LINES.len()], [1, 4, 20][i % 3]);
        let request = client.post(format!("{url}/translate?steps={steps}")).json(&en_de(line));
        requests.spawn(async move {
            let response = request.send().await.unwrap();
            let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
            assert_eq!(status, 200, "{answer}");
            (i, answer["translatedText"].as_str().unwrap().to_owned())
        });
    }
    let admitted = async || {
        let text = get("/metrics").await.text().await.unwrap();
        let sum = |prefix: &str| -> f64 {
            let values = text
                .lines()
                .filter_map(|line| line.strip_prefix(prefix)?.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum()
        };
        let answered = sum("tutti_http_requests_total{code=\"200\",route=\"/translate\"}");
        answered + sum("tutti_queue_depth{") + sum("tutti_running_items{")
    };
    in_time(async { while admitted().await < REQUESTS as f64 {} }).await;
    let killed = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.0.id())).status().unwrap();
    assert!(killed.success());

    let mut answers = vec![String::new(); REQUESTS];
    while let Some(done) = in_time(requests.join_next()).await {
        let (i, answer) = done.unwrap();
        answers[i] = answer;
    }
    assert_eq!(child.0.wait().unwrap().code(), Some(0));

    // Each equals the output of `tutti translate` for that line and number of steps.
    for (offset, steps) in ["1", "4", "20"].into_iter().enumerate() {
        let own: Vec<usize> = (offset..REQUESTS).step_by(3).collect();
        let input: String = own.iter().map(|&i| format!("{}\n", LINES[i % LINES.len()])).collect();
        let output = translate(&folder, &["--steps", steps], &input);
        let lines: Vec<&str> = output.split_terminator('\n').collect();
        let served: Vec<String> = own.iter().map(|&i| answers[i].replace('\n', " ")).collect();
        assert_eq!(lines, served, "at {steps} steps");
    }
}

#[test]
fn translate_keeps_lines_as_they_are() {
    let folder = bundle();
    for input in ["", "\n", "Thank you.\n", "Thank you.", "\n\nThank you. Thank you.\n \n…\nThank you.\r\n\n"]
    {
        let output = translate(&folder, &["--steps", "2"], input);
        assert_eq!(output.matches('\n').count(), input.matches('\n').count(), "{input:?} gave {output:?}");
        assert_eq!(output.ends_with('\n'), input.ends_with('\n'));
    }
    let many: String = (0..3000).map(|i| format!("{}\n", LINES[i % LINES.len()])).collect();
    assert_eq!(translate(&folder, &["--steps", "1", "--length-beam", "1"], &many).lines().count(), 3000);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = bundle();
    let mut command = tutti(&folder);
    command.args(["translate", "--model", "tiny", "--steps", "1"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    // The program may end before all of this is written.
    let _ = child.stdin.take().unwrap().write_all("Thank you.\n".repeat(100).as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn check_reports_errors() {
    let folder = bundle();
    let check = |flags: &[&str]| {
        let mut command = tutti(&folder);
        command.args(["check", "--model", "tiny"]).args(flags);
        let output = run(command, "");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), said.concat())
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("max_batch_tokens = ") && said.contains("tiny"), "{said}");
    std::fs::write(folder.path().join("bad.toml"), "max_bach_tokens = 1").unwrap();
    for (flags, what) in [
        (&["--config", "bad.toml"][..], "max_bach_tokens"),
        (&["--config", "none.toml"], "none.toml"),
        (&["--set", "max_batch_tokens=7"], "max_batch_tokens"),
        (&["--set", "max_texts"], "KEY=VALUE"),
    ] {
        let (code, said) = check(flags);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(what), "{said}");
    }
    std::fs::write(folder.path().join("tiny/model.safetensors"), "cut").unwrap();
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("model.safetensors"), "{said}");
}

/// Exit code and both streams of a command in an empty folder, with `RUST_BACKTRACE`.
fn outcome(flags: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tutti(&folder);
    command.args(flags).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_model_is_built_in_and_steps_stand_side_by_side() {
    let text = b"Where is the train station?\nThank you.\n";
    let (code, out, err) = outcome(&["translate", "--steps", "1,4", "--threads", "1"], text);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2);
    for columns in &lines {
        assert_eq!(columns.len(), 2, "{columns:?}");
    }
    for (i, steps) in ["1", "4"].into_iter().enumerate() {
        let (_, alone, _) = outcome(&["translate", "--steps", steps, "--threads", "1"], text);
        assert_eq!(alone.lines().collect::<Vec<_>>(), lines.iter().map(|line| line[i]).collect::<Vec<_>>());
    }
    let (_, unnamed, _) = outcome(&["translate", "--threads", "1"], text);
    let (code, named, err) = outcome(&["translate", "--model", "en-de", "--threads", "1"], text);
    assert_eq!((code, named), (Some(0), unnamed), "{err}");
    let (code, back, err) = outcome(&["translate", "--model", "de-en", "--threads", "1"], b"Danke.\n");
    assert_eq!((code, back.as_str()), (Some(0), "Thank you.\n"), "{err}");
    let both = ["# model en-de: en to de", "# model de-en: de to en"];
    for (arguments, models) in [
        (&["check"][..], &both[..]),
        (&["check", "--model", "en-de"], &both[..1]),
        (&["check", "--model", "de-en"], &both[1..]),
    ] {
        let (code, out, err) = outcome(arguments, b"");
        assert_eq!(code, Some(0), "{err}");
        for model in both {
            assert_eq!(out.contains(model), models.contains(&model), "{out}");
        }
    }
    // A folder of that name replaces the built-in model only if it is asked for.
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("en-de")).unwrap();
    let check = |arguments: &[&str]| {
        let mut command = tutti(&place);
        command.arg("check").args(arguments).output().unwrap()
    };
    assert!(check(&[]).status.success());
    let refused = check(&["--model", "en-de"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("config.json"));
}

#[test]
fn a_bad_line_is_named_and_kept_and_the_others_are_translated() {
    let input = b"Thank you.\n\xff\xfe\nThank you.\n";
    let folder = bundle();
    let mut command = tutti(&folder);
    command.args(["translate", "--model", "tiny", "--threads", "1"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&[u8]> = output.stdout.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1], b"\xff\xfe");
    assert_eq!(lines[0], lines[2]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("line 2") && said.contains("UTF-8"), "{said}");
}

#[test]
fn an_error_is_one_line_with_each_cause_once() {
    for (flags, part) in [
        (&["translate", "--model", "nowhere"][..], "train run"),
        (&["check", "--config", "none.toml"], "none.toml"),
        (&["check", "--listen", "nowhere"], "listen"),
        (&["translate", "--steps", "0"], "--steps must be 1 to"),
    ] {
        let (code, _, said) = outcome(flags, b"");
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("tutti: ") && said.contains(part), "{said}");
        let causes: Vec<&str> = said.trim().split(": ").collect();
        assert!(causes.windows(2).all(|pair| pair[0] != pair[1]), "{said}");
        assert!(!said.contains("backtrace"), "{said}");
    }
}

#[test]
fn help_has_every_setting_with_its_variable() {
    let (_, help, _) = outcome(&["serve", "--help"], b"");
    let documented = include_str!("../../config/server.toml");
    let keys =
        documented.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    for (key, default) in keys {
        let line = format!("{key}, TUTTI_{} [default: {default}]", key.to_ascii_uppercase());
        assert!(help.contains(&line), "--help lacks {line:?}");
    }
}

#[test]
fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, err) = outcome(&["completions", shell], b"");
        assert_eq!(code, Some(0), "{err}");
        assert!(script.contains("translate") && script.contains("batch-tokens"), "{shell}");
    }
    let (_, page, _) = outcome(&["man"], b"");
    assert!(page.contains(".TH tutti 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = outcome(&["man", "--output", folder.path().to_str().unwrap()], b"");
    assert_eq!(code, Some(0), "{err}");
    for command in ["tutti", "tutti-serve", "tutti-translate", "tutti-completions"] {
        assert!(folder.path().join(format!("{command}.1")).exists(), "{command}");
    }
}

/// With the feature it depends on the machine; `model::backend` tests the rules.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_cannot_be_is_refused_at_start_and_auto_does_without_it() {
    let folder = bundle();
    for (flags, hint) in [
        (["--device", "cuda:0", "--dtype", "f32"], "without CUDA"),
        (["--device", "cpu", "--dtype", "bf16"], "q8 or f32"),
    ] {
        let mut command = tutti(&folder);
        command.args(["check", "--model", "tiny"]).args(flags);
        let output = run(command, "");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(hint), "{told}");
    }
    let by = |device| translate(&folder, &["--device", device], LINES[0]);
    assert_eq!(by("auto"), by("cpu"));
}

/// With 128 open files there is room for 64 connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_lock_nobody_out_where_few_files_may_be_open() {
    let folder = bundle();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tutti")]);
    command.env_clear().current_dir(folder.path());
    let (_child, url) = serve_with(command, "tiny");
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = async || client.get(format!("{url}/readyz")).send().await.unwrap().status() == 200;
    in_time(async { while !ready().await {} }).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(in_time(client.get(format!("{url}{path}")).send()).await.unwrap().status(), 200, "{path}");
    }
}

#[cfg(unix)]
#[test]
fn check_refuses_a_pipe_at_once() {
    let folder = bundle();
    let path = folder.path().join("tiny/tokenizer.json");
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut command = tutti(&folder);
    command.args(["check", "--model", "tiny"]);
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("not a regular file"), "{said}");
}
