//! Ends a server with SIGTERM again and again while it is under load, and counts what became of the requests. A
//! request that was sent must be answered, on a connection that was kept as on a new one; only who cannot connect
//! has sent nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

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
    refused: AtomicU64,
    /// Sent, and the connection ended without an answer.
    lost_on_kept: AtomicU64,
    lost_on_new: AtomicU64,
}

/// Until a server is ready, and for one request.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(arguments: &Restarts) -> Result<()> {
    ensure!(arguments.clients > 0 && arguments.times > 0, "nobody asks");
    let counts = Counts::default();
    let mut slowest = Duration::ZERO;
    for time in 0..arguments.times {
        let (mut server, address) = start(arguments)?;
        let counts = &counts;
        let ended = std::thread::scope(|scope| {
            for kept in [true, false] {
                for _ in 0..arguments.clients {
                    scope.spawn(move || ask(address, kept, arguments.steps, counts));
                }
            }
            // Not always at the same moment of a request.
            std::thread::sleep(Duration::from_millis(arguments.load_ms + u64::from(time % 17)));
            let begun = Instant::now();
            terminate(&server).and_then(|()| Ok(server.wait()?)).map(|status| (status, begun.elapsed()))
        });
        let (status, took) = ended?;
        ensure!(status.success(), "the server ended with {status}");
        slowest = slowest.max(took);
    }
    let value = |count: &AtomicU64| count.load(Relaxed);
    let [answered, refused, kept, new] =
        [&counts.answered, &counts.refused, &counts.lost_on_kept, &counts.lost_on_new].map(value);
    if arguments.json {
        let lost = json!({ "on_kept_connections": kept, "on_new_connections": new });
        let slowest = slowest.as_secs_f64();
        println!(
            "{}",
            json!({ "times": arguments.times, "answered": answered, "refused": refused, "lost": lost, "slowest_end_seconds": slowest })
        );
    } else {
        println!(
            "{} times SIGTERM: {answered} answered, {refused} refused (429, 503), lost: {kept} on kept connections, {new} \
             on new ones; the slowest end took {:.2} s",
            arguments.times,
            slowest.as_secs_f64()
        );
    }
    ensure!(kept + new == 0, "requests were lost");
    Ok(())
}

fn start(arguments: &Restarts) -> Result<(Child, SocketAddr)> {
    let mut command = Command::new(&arguments.program);
    command.args(&arguments.arguments).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut child = command.stderr(Stdio::piped()).spawn().context("the server does not start")?;
    let mut log = BufReader::new(child.stderr.take().context("no log")?).lines();
    let address = log.by_ref().map_while(Result::ok).find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line["fields"]["address"].as_str()?.parse().ok()
    });
    let address: SocketAddr = address.context("the server does not say where it listens")?;
    std::thread::spawn(move || log.for_each(drop));
    let begun = Instant::now();
    while request(&mut TcpStream::connect(address)?, "GET", "/readyz", "").ok().map(|answer| answer.status)
        != Some(200)
    {
        ensure!(begun.elapsed() < PATIENCE, "the server does not become ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((child, address))
}

fn terminate(server: &Child) -> Result<()> {
    let status = Command::new("kill").args(["-TERM", &server.id().to_string()]).status()?;
    ensure!(status.success(), "kill: {status}");
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
                let counter = if answer.status == 200 { &counts.answered } else { &counts.refused };
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

struct Answer {
    status: u16,
    closes: bool,
}

fn request(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: loadtest\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the connection ended");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let mut body = vec![0; length.parse()?];
    reader.read_exact(&mut body)?;
    Ok(Answer { status, closes: head.iter().any(|line| line == "connection: close") })
}
