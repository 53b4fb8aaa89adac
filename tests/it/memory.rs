//! Memory that the program needs to serve the default model.

use std::path::Path;
use std::process::Command;

use crate::process::serve_with;
use crate::support::{en_de, in_time};

const TEXTS: [&str; 4] = [
    "Thank you.",
    "If it rains tomorrow, we will stay at home and read.",
    "She has been working in this hospital for more than twenty years, and she would do it all again.",
    "Where is the train station? It is behind the old church. You can see it from here.",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_takes_at_most_twice_the_weights_and_a_hundred_megabytes() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en-de");
    let weights = std::fs::metadata(bundle.join("model.safetensors")).unwrap().len();
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
    let bound = 2.0 * weights as f64 + 100e6;
    assert!(resident().await <= bound, "{} bytes, at most {bound}", resident().await);
}
