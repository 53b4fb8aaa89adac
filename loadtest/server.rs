//! Starting the server's program, asking it, ending it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Until a server is ready, and for one request.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Ready when this returns.
    pub fn start(program: &Path, arguments: &[String], listen: &str) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).args(["--listen", listen, "--log-format", "json"]);
        let mut child =
            command.stderr(Stdio::piped()).spawn().with_context(|| program.display().to_string())?;
        let mut log = BufReader::new(child.stderr.take().context("no log")?).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            line["fields"]["address"].as_str()?.parse().ok()
        });
        let address = match address {
            Some(address) => address,
            None => anyhow::bail!("{} ended with {}", program.display(), child.wait()?),
        };
        std::thread::spawn(move || log.for_each(drop));
        let server = Self { child, address };
        let begun = Instant::now();
        while server.status("/readyz").ok() != Some(200) {
            ensure!(begun.elapsed() < PATIENCE, "the server does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn status(&self, path: &str) -> Result<u16> {
        Ok(request(&mut TcpStream::connect(self.address)?, "GET", path, "")?.status)
    }

    /// `TERM`, `KILL`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill: {status}");
        Ok(())
    }

    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// SIGTERM, and the end; how long that took.
    ///
    /// # Errors
    /// Any other exit status than 0.
    pub fn terminate(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.signal("TERM")?;
        let status = self.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(begun.elapsed())
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Answer {
    pub status: u16,
    pub closes: bool,
}

/// One request on a connection that may have had others.
pub fn request(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: loadtest\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{head}{body}").as_bytes())?;
    answer(stream)
}

/// Reads one answer.
pub fn answer(stream: &mut TcpStream) -> Result<Answer> {
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
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        let mut body = vec![0; length.parse()?];
        reader.read_exact(&mut body)?;
    }
    Ok(Answer { status, closes: length.is_none() || head.iter().any(|line| line == "connection: close") })
}
