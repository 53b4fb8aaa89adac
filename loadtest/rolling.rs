//! Restarts three servers behind nginx one by one under a steady load, several times: no request may fail. Then kills
//! them with SIGKILL, one at a time: nginx sends the requests of a killed server to another one, so that none fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::Requests;
use crate::load::{Client, Plan};
use crate::report::Report;
use crate::server::Server;

const SERVERS: usize = 3;

#[derive(Args)]
pub struct Rolling {
    #[command(flatten)]
    requests: Requests,
    /// The server's program.
    #[arg(long, default_value = "target/release/tutti")]
    program: PathBuf,
    /// nginx's program.
    #[arg(long, default_value = "nginx")]
    nginx: String,
    /// Arguments of each server, besides `--listen` and `--log-format`.
    #[arg(long = "argument", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Requests per second, on average.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// How often every server is restarted.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How often a server is killed with SIGKILL, and started again.
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Seconds between two restarts.
    #[arg(long, default_value_t = 1.0)]
    pause: f64,
}

/// What nginx says of the requests that it sent to more than one server.
#[derive(Default)]
struct Retried {
    /// The server had the request, and its connection ended without an answer.
    held: usize,
    /// Nobody listened.
    unreached: usize,
}

pub fn run(arguments: &Rolling) -> Result<()> {
    ensure!(arguments.pause > 0.0 && arguments.pause <= 60.0, "--pause must be above 0, a minute at most");
    let folder = std::env::temp_dir().join(format!("tutti-rolling-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let done = run_in(arguments, &folder);
    fs::remove_dir_all(&folder)?;
    done
}

fn run_in(arguments: &Rolling, folder: &Path) -> Result<()> {
    let mut servers = (0..SERVERS)
        .map(|_| Server::start(&arguments.program, &arguments.arguments, "127.0.0.1:0"))
        .collect::<Result<Vec<Server>>>()?;
    let proxy = Nginx::start(&arguments.nginx, folder, &servers)?;
    let mut requests = arguments.requests.clone();
    requests.url = format!("http://127.0.0.1:{}/translate", proxy.port);
    let client = Client::new(&requests)?;

    let terminate = |servers: &mut Vec<Server>| -> Result<()> {
        for _ in 0..arguments.rounds {
            for server in servers.iter_mut() {
                let listen = server.address.to_string();
                server.terminate()?;
                *server = Server::start(&arguments.program, &arguments.arguments, &listen)?;
                std::thread::sleep(Duration::from_secs_f64(arguments.pause));
            }
        }
        Ok(())
    };
    let restarts = (arguments.rounds * SERVERS) as f64;
    let restarted = under_load(&client, &requests, arguments, restarts, &mut servers, terminate)?;
    let retried_restarting = proxy.retried()?;

    let kill = |servers: &mut Vec<Server>| -> Result<()> {
        for index in 0..arguments.kills {
            let server = &mut servers[index % SERVERS];
            let listen = server.address.to_string();
            server.signal("KILL")?;
            server.wait()?;
            std::thread::sleep(Duration::from_secs_f64(arguments.pause));
            *server = Server::start(&arguments.program, &arguments.arguments, &listen)?;
            std::thread::sleep(Duration::from_secs_f64(arguments.pause));
        }
        Ok(())
    };
    let killed = under_load(&client, &requests, arguments, arguments.kills as f64, &mut servers, kill)?;
    let retried_killing = proxy.retried()?;

    let in_hand = |before: &Retried, after: &Retried| Retried {
        held: after.held - before.held,
        unreached: after.unreached - before.unreached,
    };
    let killing = in_hand(&retried_restarting, &retried_killing);
    if arguments.requests.json {
        let phase = |report: &Report, retried: &Retried| {
            json!({
                "sent": report.sent(), "answered": report.answered(), "held": retried.held,
                "unreached": retried.unreached, "report": report.to_json(),
            })
        };
        println!(
            "{}",
            json!({ "restarts": phase(&restarted, &retried_restarting), "kills": phase(&killed, &killing) })
        );
    } else {
        for (what, report, retried) in [
            (format!("{} rounds of SIGTERM", arguments.rounds), &restarted, &retried_restarting),
            (format!("{} times SIGKILL", arguments.kills), &killed, &killing),
        ] {
            println!(
                "{what}: {} of {} requests answered; nginx asked another server for {} that the ended one held and {} that \
                 did not reach it",
                report.answered(),
                report.sent(),
                retried.held,
                retried.unreached,
            );
        }
    }
    ensure!(restarted.answered() == restarted.sent(), "requests failed during restarts:\n{restarted}");
    ensure!(killed.answered() == killed.sent(), "requests failed after SIGKILL:\n{killed}");
    ensure!(retried_restarting.held == 0, "a restarted server dropped requests that it had accepted");
    Ok(())
}

/// Sends for as long as `work` is expected to take, and a little longer.
fn under_load(
    client: &Client,
    requests: &Requests,
    arguments: &Rolling,
    restarts: f64,
    servers: &mut Vec<Server>,
    work: impl FnOnce(&mut Vec<Server>) -> Result<()> + Send,
) -> Result<Report> {
    // Start and end of a server take about two seconds; whatever is longer is done without load and shown.
    let seconds = restarts * (arguments.pause + 2.5) + 2.0;
    let plan = Plan::poisson(requests, client.texts(), arguments.rate, seconds)?;
    let begun = std::time::Instant::now();
    let (report, took) = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let done = work(servers);
            (done, begun.elapsed())
        });
        let report = client.send_all(&plan);
        let (done, took) = worker.join().map_err(|_| anyhow::anyhow!("restarting panicked"))?;
        done?;
        anyhow::Ok((report?, took))
    })?;
    ensure!(
        took.as_secs_f64() < seconds,
        "restarting took {:.0} s, longer than the load of {seconds:.0} s: raise --pause",
        took.as_secs_f64()
    );
    Ok(report)
}

struct Nginx {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Nginx {
    fn start(program: &str, folder: &Path, servers: &[Server]) -> Result<Self> {
        // Free now; whoever takes it before nginx does makes this fail, not lie.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let upstream: String =
            servers.iter().map(|server| format!("    server {};\n", server.address)).collect();
        let config = include_str!("nginx.conf")
            .replace("{folder}", &folder.display().to_string())
            .replace("{port}", &port.to_string())
            .replace("{servers}", &upstream);
        let path = folder.join("nginx.conf");
        fs::write(&path, config)?;
        let child = Command::new(program)
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{program} does not start; Debian has it as nginx"))?;
        let nginx = Self { child, port, folder: folder.to_path_buf() };
        let mut tries = 0;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            tries += 1;
            ensure!(tries < 100, "nginx does not listen: {}", nginx.errors().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(nginx)
    }

    fn errors(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("error.log"))?)
    }

    /// Since the start.
    fn retried(&self) -> Result<Retried> {
        let mut retried = Retried::default();
        for line in self.errors()?.lines() {
            if line.contains("connect() failed") {
                retried.unreached += 1;
            } else if line.contains("prematurely closed") || line.contains("reset by peer") {
                retried.held += 1;
            }
        }
        Ok(retried)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
