//! A built program that runs beside a test. It writes to files, so that it never waits for a reader.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Time limit of each wait.
const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills the program when dropped.
pub struct Program {
    child: Child,
    output: TempDir,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap();
        Self { child, output }
    }

    /// Starts `tutti serve` on a free port, with its log as JSON. Returns its URL, too.
    pub fn serve(mut command: Command, model: &str) -> (Self, String) {
        command.args(["--model", model, "--listen", "127.0.0.1:0", "--log-format", "json"]);
        command.args(["--threads", "1", "--device", "cpu", "--set", "request_timeout_ms=300000"]);
        let mut server = Self::start(command);
        let address = server.until(|log| {
            log.lines().find_map(|line| {
                let event: Value = serde_json::from_str(line).ok()?;
                Some(event["fields"]["address"].as_str()?.to_owned())
            })
        });
        (server, format!("http://{address}"))
    }

    /// Everything on standard error so far.
    pub fn log(&self) -> String {
        self.written("stderr")
    }

    /// Everything on standard output so far.
    pub fn printed(&self) -> String {
        self.written("stdout")
    }

    fn written(&self, name: &str) -> String {
        let bytes = fs::read(self.output.path().join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Looks again and again, with the log so far, until there is something. Fails if the program ends before.
    pub fn until<T>(&mut self, look: impl Fn(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            let log = self.log();
            if let Some(found) = look(&log) {
                return found;
            }
            assert!(ended.is_none() && begun.elapsed() < LIMIT, "{ended:?}: {log}");
            thread::sleep(PAUSE);
        }
    }

    pub fn until_ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < LIMIT, "{}", self.log());
            thread::sleep(PAUSE);
        }
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
