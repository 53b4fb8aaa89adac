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
use crate::load::{Client, LoadPlan};
use crate::report::Report;
use crate::server::Server;

const SERVERS: usize = 3;

/// What the end of a server and its start take together on a busy machine, generously: the load must outlast them.
const RESTART_SECONDS: f64 = 5.0;

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

/// A request that nginx sent to another server, as its log has it.
struct Retry {
    /// The address that failed.
    server: String,
    /// The server had the request, and its connection ended without an answer. Otherwise nobody listened, or nobody
    /// accepted in time.
    held: bool,
}

fn held(retries: &[Retry]) -> usize {
    retries.iter().filter(|retry| retry.held).count()
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
    let seconds = (arguments.rounds * SERVERS) as f64 * (arguments.pause + RESTART_SECONDS);
    let restarted = under_load(&client, &requests, arguments.rate, seconds, &mut servers, terminate)?;
    let restarting = proxy.retries()?;

    // Lines of the log that were judged, and those that have no good reason.
    let (mut judged, mut stray) = (restarting.len(), 0);
    let kill = |servers: &mut Vec<Server>| -> Result<()> {
        for index in 0..arguments.kills {
            let server = &mut servers[index % SERVERS];
            let listen = server.address.to_string();
            server.signal("KILL")?;
            server.wait()?;
            std::thread::sleep(Duration::from_secs_f64(arguments.pause));
            let dead = proxy.retries()?.len();
            *server = Server::start(&arguments.program, &arguments.arguments, &listen)?;
            std::thread::sleep(Duration::from_secs_f64(arguments.pause));
            let retries = proxy.retries()?;
            stray += retries[judged..].iter().filter(|retry| retry.server != listen).count();
            // A server that is dead holds nothing, and its successor must not drop any request.
            stray += retries[dead..].iter().filter(|retry| retry.held && retry.server == listen).count();
            judged = retries.len();
        }
        Ok(())
    };
    let seconds = arguments.kills as f64 * (2.0 * arguments.pause + RESTART_SECONDS);
    let killed = under_load(&client, &requests, arguments.rate, seconds, &mut servers, kill)?;
    let all = proxy.retries()?;
    stray += all.len() - judged;
    let killing = &all[restarting.len()..];

    if arguments.requests.json {
        let phase = |report: &Report, retries: &[Retry]| {
            json!({
                "sent": report.sent(), "answered": report.answered(), "held": held(retries),
                "unreached": retries.len() - held(retries), "report": report.to_json(),
            })
        };
        println!(
            "{}",
            json!({ "restarts": phase(&restarted, &restarting), "kills": phase(&killed, killing) })
        );
    } else {
        for (what, report, retries) in [
            (format!("{} rounds of SIGTERM", arguments.rounds), &restarted, restarting.as_slice()),
            (format!("{} times SIGKILL", arguments.kills), &killed, killing),
        ] {
            println!(
                "{what}: {} of {} requests answered; nginx asked another server for {} that the ended one held and {} that \
                 did not reach it",
                report.answered(),
                report.sent(),
                held(retries),
                retries.len() - held(retries),
            );
        }
    }
    ensure!(restarted.answered() == restarted.sent(), "requests failed during restarts:\n{restarted}");
    ensure!(killed.answered() == killed.sent(), "requests failed after SIGKILL:\n{killed}");
    ensure!(held(&restarting) == 0, "a restarted server dropped requests that it had accepted");
    ensure!(
        stray == 0,
        "nginx asked another server for {stray} requests that the killed one neither held nor missed"
    );
    Ok(())
}

/// Sends for the seconds that `work` takes at most, and a little longer.
fn under_load(
    client: &Client,
    requests: &Requests,
    rate: f64,
    seconds: f64,
    servers: &mut Vec<Server>,
    work: impl FnOnce(&mut Vec<Server>) -> Result<()> + Send,
) -> Result<Report> {
    let seconds = seconds + 2.0;
    let plan = LoadPlan::poisson(requests, client.texts(), rate, seconds)?;
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
        "restarting took {:.0} s, longer than the load of {seconds:.0} s: a server took over {RESTART_SECONDS:.0} s to end \
         and start; this needs a less busy machine",
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
        // Free now. If another program takes it first, nginx does not start, and the test fails.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // Without `max_fails=0` nginx asks a server that was restarted only after ten seconds, and if that holds for all
        // of them, nobody.
        let upstream: String =
            servers.iter().map(|server| format!("    server {} max_fails=0;\n", server.address)).collect();
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

    /// All since the start.
    fn retries(&self) -> Result<Vec<Retry>> {
        Ok(self.errors()?.lines().filter_map(Retry::of).collect())
    }
}

impl Retry {
    /// `… while connecting to upstream, …, upstream: "http://127.0.0.1:8081/translate", …`
    fn of(line: &str) -> Option<Self> {
        let (_, address) = line.split_once("upstream: \"http://")?;
        let server = address.split(['/', '"']).next()?.to_owned();
        Some(Self { server, held: !line.contains("while connecting to upstream") })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
