//! Memory that the program needs to serve the default model.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tutti::model::Bundle;

use crate::process::serve_with;
use crate::support::{en_de, in_time};

const TEXTS: [&str; 4] = [
    "Thank you.",
    "If it rains tomorrow, we will stay at home and read.",
    "She has been working in this hospital for more than twenty years, and she would do it all again.",
    "Where is the train station? It is behind the old church. You can see it from here.",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_takes_at_most_the_weights_in_f32_and_a_hundred_megabytes() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en-de");
    let opened = Bundle::open(&bundle).unwrap();
    let weights: usize = opened.tensors().values().map(|tensor| tensor.elem_count()).sum();
    drop(opened);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear();
    let (_server, url) = serve_with(command, bundle.to_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;
    let resident = async || {
        let text = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        value.expect("the program knows its size").parse::<f64>().unwrap()
    };
    let round = async |texts: usize| {
        let q: Vec<&str> = TEXTS.into_iter().cycle().take(texts).collect();
        let request = client.post(format!("{url}/translate?steps=2")).json(&en_de(q));
        assert_eq!(in_time(request.send()).await.unwrap().status(), 200);
    };
    // More sentences than a batch holds, so that every buffer reaches its full size.
    for texts in [1, 200, 7, 200] {
        round(texts).await;
    }
    let bound = 4.0 * weights as f64 + 100e6;
    assert!(resident().await <= bound, "{} bytes, at most {bound}", resident().await);
}

/// Each of 100,000 characters, which is what one request may have.
fn odd_texts() -> Vec<String> {
    let parts = ["字", "x", "a<b>", "👩‍🚀", "1-1-", "{a} ", "A.A.", "a, ", "é\u{301}", "<!--", "> a\n"];
    parts.iter().map(|part| part.chars().cycle().take(100_000).collect()).collect()
}

/// The greatest resident size that a process has had, in bytes.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_odd_requests_at_once_take_little_memory_and_leave_the_probes_alone() {
    const REQUESTS: usize = 64;
    const SECONDS: u64 = 8;
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en-de");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear();
    let (server, url) = serve_with(command, bundle.to_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;
    let texts = odd_texts();
    let mut requests = JoinSet::new();
    for i in 0..REQUESTS {
        let request =
            client.post(format!("{url}/translate?steps=1")).json(&en_de(texts[i % texts.len()].as_str()));
        requests.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let (begun, mut probes) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        let asked = Instant::now();
        assert_eq!(in_time(client.get(format!("{url}/livez")).send()).await.unwrap().status(), 200);
        probes.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut statuses = Vec::new();
    while let Some(Ok(status)) = requests.try_join_next() {
        statuses.push(status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    // Those that are left are cancelled with their clients: soon the server has time for others.
    requests.shutdown().await;
    let small = client.post(format!("{url}/translate?steps=1")).json(&en_de("Where is the train station?"));
    assert_eq!(in_time(small.send()).await.unwrap().status(), 200);
    probes.sort();
    let (median, longest, peak) = (probes[probes.len() / 2], probes[probes.len() - 1], peak(server.id()));
    let refused = statuses.iter().filter(|&&status| status == 429).count();
    println!("peak {} MB, /livez median {median:?}, longest {longest:?}, {refused} refused", peak / 1e6);
    assert!(peak < 250e6, "{peak} bytes");
    assert!(median < Duration::from_millis(100), "{median:?}");
    // Where others use the machine, a probe may wait for the processor now and then.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}
