//! Ends a server with SIGTERM again and again while it is under load, and counts what became of the requests. A
//! request that was sent must be answered, on a connection that was kept as on a new one; only who cannot connect
//! has sent nothing.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::server::{PATIENCE, Server, request};

#[derive(Args)]
pub struct Restarts {
    /// The server's program.
    #[arg(long, default_value = "target/release/tutti")]
    program: PathBuf,
    /// Arguments of the server, besides `--listen` and `--log-format`.
    #[arg(long = "argument", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// How often it is started and ended.
    #[arg(long, default_value_t = 100)]
    times: u32,
    /// Clients that keep their connections, and as many that open one for each request.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Milliseconds under load before each SIGTERM.
    #[arg(long, default_value_t = 500)]
    load_ms: u64,
    #[arg(long, default_value_t = 1)]
    steps: u8,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What became of the requests.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    /// 429 and 503.
    refused: AtomicU64,
    /// Any other status.
    unexpected: AtomicU64,
    /// Sent, and the connection ended without an answer.
    lost_on_kept: AtomicU64,
    lost_on_new: AtomicU64,
}

pub fn run(arguments: &Restarts) -> Result<()> {
    ensure!(arguments.clients > 0 && arguments.times > 0, "nobody asks");
    let counts = Counts::default();
    let mut slowest = Duration::ZERO;
    for time in 0..arguments.times {
        let mut server = Server::start(&arguments.program, &arguments.arguments, "127.0.0.1:0")?;
        let (address, counts) = (server.address, &counts);
        let ended = std::thread::scope(|scope| {
            for kept in [true, false] {
                for _ in 0..arguments.clients {
                    scope.spawn(move || ask(address, kept, arguments.steps, counts));
                }
            }
            // Not always at the same moment of a request.
            std::thread::sleep(Duration::from_millis(arguments.load_ms + u64::from(time % 17)));
            server.terminate()
        });
        slowest = slowest.max(ended?);
    }
    let value = |count: &AtomicU64| count.load(Relaxed);
    let Counts { answered, refused, unexpected, lost_on_kept, lost_on_new } = &counts;
    let [answered, refused, unexpected, kept, new] =
        [answered, refused, unexpected, lost_on_kept, lost_on_new].map(value);
    if arguments.json {
        let lost = json!({ "on_kept_connections": kept, "on_new_connections": new });
        let slowest = slowest.as_secs_f64();
        println!(
            "{}",
            json!({
                "times": arguments.times, "answered": answered, "refused": refused, "unexpected": unexpected,
                "lost": lost, "slowest_end_seconds": slowest,
            })
        );
    } else {
        println!(
            "{} times SIGTERM: {answered} answered, {refused} refused (429, 503), {unexpected} with another status, lost: \
             {kept} on kept connections, {new} on new ones; the slowest end took {:.2} s",
            arguments.times,
            slowest.as_secs_f64()
        );
    }
    ensure!(kept + new == 0, "requests were lost");
    ensure!(unexpected == 0, "requests got a status other than 200, 429 or 503");
    Ok(())
}

/// Asks until nobody listens any more.
fn ask(address: SocketAddr, keeps: bool, steps: u8, counts: &Counts) {
    let body = json!({ "q": "Where is the train station?", "source": "en", "target": "de", "steps": steps });
    let body = body.to_string();
    let mut connection: Option<TcpStream> = None;
    loop {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        match request(&mut stream, "POST", "/translate", &body) {
            Ok(answer) => {
                let counter = match answer.status {
                    200 => &counts.answered,
                    429 | 503 => &counts.refused,
                    _ => &counts.unexpected,
                };
                counter.fetch_add(1, Relaxed);
                if keeps && !answer.closes {
                    connection = Some(stream);
                }
            }
            Err(_) => {
                let counter = if keeps { &counts.lost_on_kept } else { &counts.lost_on_new };
                counter.fetch_add(1, Relaxed);
            }
        }
    }
}
