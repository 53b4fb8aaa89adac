//! A server that may open no more files.

use std::process::Command;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::process::bundle;
use crate::program::Program;
use crate::support::{LINES, en_de, in_time};

const OPEN_FILES: usize = 80;

/// More connections are allowed than files, so that accepting one fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_files_for_new_connections_closes_idle_ones_and_goes_on() {
    let folder = bundle();
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {OPEN_FILES}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_tutti"));
    command.args(["--set", "max_connections=10000"]).env_clear().current_dir(folder.path());
    let (server, url) = Program::serve(command, "tiny");
    // Each time on a new connection. One that was accepted just before the last free file was used may be closed.
    let answered = async |path: &str| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("{url}{path}")).send().await;
        response.is_ok_and(|response| response.status() == 200)
    };
    in_time(async { while !answered("/readyz").await {} }).await;

    let address = url.strip_prefix("http://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..2 * OPEN_FILES {
        idle.push(in_time(TcpStream::connect(address)).await.unwrap());
    }
    in_time(async { while !answered("/livez").await {} }).await;
    assert!(server.log().contains("cannot accept a connection; idle ones are closed"), "{}", server.log());
    let mut rest = Vec::new();
    assert_eq!(in_time(idle[0].read_to_end(&mut rest)).await.unwrap(), 0, "the first one was closed");

    // The files of the closed connections are free again.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{url}/translate")).json(&en_de(LINES[0]));
    assert_eq!(in_time(request.send()).await.unwrap().status(), 200);
}
