//! What operators deploy beside the program agrees with it: a dashboard over a renamed metric stays
//! empty, an alert over it stays silent, a variable that no setting has stops the start.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tutti::http::ROUTES;
use tutti::metrics::Metrics;

use crate::support::{Server, Setup};

const FOLDERS: [&str; 3] = ["config/kubernetes", "config/prometheus", "config/grafana"];

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| repository(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The manifests that say how a container runs.
fn containers() -> String {
    ["base/deployment.yaml", "components/cores/deployment.yaml", "overlays/gpu/gpu.yaml"]
        .map(|file| read(&repository("config/kubernetes").join(file)))
        .join("\n")
}

/// Every word that starts with `prefix` and goes on with word characters.
pub fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// The names that may stand in a query, taken from what a server with one model renders.
pub fn series() -> BTreeSet<String> {
    let metrics = Metrics::new();
    let _http = metrics.http(&["/translate"]);
    metrics.engine("en-de").describe("00", "f32", "cpu");
    let text = metrics.render();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let suffixes = |kind| if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
    families
        .flat_map(|(name, kind)| suffixes(kind).iter().map(move |suffix| format!("{name}{suffix}")))
        .collect()
}

/// What `TUTTI_…` may name: the keys of the documented settings, and the file that they stand in.
fn variables() -> BTreeSet<String> {
    let settings: toml::Table = read(&repository("config/server.toml")).parse().unwrap();
    settings
        .keys()
        .map(String::as_str)
        .chain(["config"])
        .map(|key| format!("TUTTI_{}", key.to_uppercase()))
        .collect()
}

#[test]
fn every_metric_that_operators_watch_exists() {
    let known = series();
    let mut watching = Vec::new();
    for file in files() {
        let text = read(&file);
        let named = words(&text, "tutti_");
        for name in &named {
            assert!(known.contains(*name), "{} names {name}, which no server has", file.display());
        }
        if !named.is_empty() {
            watching.push(file.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    for file in
        ["rules.yaml", "rules_test.yaml", "tutti.json", "prometheus-adapter.yaml", "scaled-object.yaml"]
    {
        assert!(watching.iter().any(|name| name == file), "{file} watches nothing");
    }
}

#[test]
fn every_query_of_the_dashboard_asks_for_a_metric() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read(&repository("config/grafana/tutti.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} is empty", panel["title"]);
        for target in targets {
            assert!(!words(target["expr"].as_str().unwrap(), "tutti_").is_empty(), "{}", panel["title"]);
        }
    }
}

#[test]
fn the_autoscaler_asks_only_for_what_the_adapter_serves() {
    let adapter = read(&repository("config/kubernetes/prometheus-adapter.yaml"));
    for (component, metric) in
        [("queue", "tutti_queue_depth"), ("saturation", "tutti-saturation"), ("latency", "tutti-latency-p95")]
    {
        let folder = format!("config/kubernetes/components/scale-by-{component}");
        let autoscaler = read(&repository(&folder).join("kustomization.yaml"));
        assert!(autoscaler.contains(&format!("metric: {{name: {metric}}}")), "{folder}");
        assert!(adapter.contains(metric), "the adapter does not serve {metric}");
    }
}

#[test]
fn every_variable_of_the_container_is_a_setting() {
    let known = variables();
    let used = [read(&repository("Dockerfile")), containers()];
    for text in &used {
        let named = words(text, "TUTTI_");
        assert!(!named.is_empty());
        for name in named {
            assert!(known.contains(name), "{name} is no setting");
        }
    }
}

#[test]
fn every_probe_of_the_deployment_is_a_route() {
    let deployment = containers();
    let probed: Vec<&str> = deployment
        .lines()
        .filter_map(|line| Some(line.split_once("httpGet: {path: ")?.1.split_once(',')?.0))
        .collect();
    assert_eq!(probed.len(), 3);
    for path in probed {
        assert!(ROUTES.contains(&path), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_health_check_passes_only_while_a_server_is_ready() {
    let health = |address: SocketAddr| async move {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
        command.args(["health", "--listen", &address.to_string()]).stderr(Stdio::null());
        tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap()
    };
    let server = Server::start(Setup::default()).await;
    assert!(health(server.address).await.success());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(!health(nobody).await.success());
}
