//! A test server, and its expected answers.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tutti::decode::testing::fake::{Counts, FakeTranslator, Gate};
use tutti::decode::{DecodeOptions, Steps, Translator, translate_passages};
use tutti::engine;
use tutti::http::{self, App, Keys, Listeners, Model, Models, Pair, Traces};
use tutti::metrics::Metrics;
use tutti::model::Score;
use tutti::settings::{HttpSettings, Settings};
use tutti::text::{Reader, Tokenizer};

pub const LINES: [&str; 8] = [
    "Where is the train station?",
    "Wo ist der Bahnhof?",
    "The weather is nice today, and we are going for a walk.",
    "Das Wetter ist heute schön, und wir gehen spazieren.",
    "Thank you very much for your help.",
    "Vielen Dank für Ihre Hilfe.",
    "She has never been there before, but he has.",
    "Sie ist noch nie dort gewesen, aber er schon.",
];

pub static TOKENIZER: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(Tokenizer::train(LINES.iter(), 320).expect("the lines are enough")));

/// Time limit of every test with a server.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("the time limit is exceeded")
}

/// Options of a test server; by default those of the program.
pub struct Setup {
    pub http: HttpSettings,
    pub engine: engine::Options,
    pub fake: FakeTranslator,
    /// Whether there is a second listener, for probes and metrics.
    pub admin: bool,
    pub keys: Option<Keys>,
}

impl Default for Setup {
    fn default() -> Self {
        let settings = Settings::load(None, [], []).unwrap();
        // Tests send the same sentence many times and count each.
        let engine = engine::Options { coalesce: false, ..settings.engine.fitted(None) };
        Self { http: settings.http, engine, fake: fake(), admin: false, keys: None }
    }
}

/// `tiny`, from `en` to `de`, four steps by default and twenty at most.
pub fn model() -> Model {
    Model {
        name: "tiny".into(),
        pair: Pair { source: "en".into(), target: "de".into() },
        checksum: "c0ffee".into(),
        dtype: "f32".into(),
        shortlist: false,
        lm: false,
        device: "cpu".into(),
        cpu_fallback_reason: None,
        default_steps: Steps::new(4).unwrap(),
        max_steps: Steps::new(20).unwrap(),
        scores: vec![Score { steps: 4, bleu: 20.5, chrf: 50.25 }],
        tokenizer: TOKENIZER.clone(),
    }
}

/// The tokens are ASCII characters, so that any sequence of them is text.
const ASCII_TOKENS: u32 = 99;

pub fn fake() -> FakeTranslator {
    FakeTranslator::new().with_vocabulary(ASCII_TOKENS)
}

/// A running server. Its model is `en` to `de`, four steps by default and twenty at most.
pub struct Server {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub client: reqwest::Client,
    pub counts: Arc<Counts>,
    pub gate: Arc<Gate>,
    pub task: JoinHandle<tutti::Result<()>>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Server {
    /// Returns when the server is ready.
    pub async fn start(setup: Setup) -> Self {
        let server = Self::start_cold(setup).await;
        in_time(async { while server.get("/readyz").await.status() != 200 {} }).await;
        server
    }

    pub async fn start_cold(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = if setup.admin { Some(TcpListener::bind("127.0.0.1:0").await.unwrap()) } else { None };
        let admin_address = admin.as_ref().map(|admin| admin.local_addr().unwrap());
        let (counts, gate) = (setup.fake.counts(), setup.fake.gate());
        let metrics = Metrics::new();
        let engine = engine::start(setup.fake, setup.engine, metrics.engine("tiny")).unwrap();
        let traces = Traces::open(&setup.http).unwrap();
        let mut app = App::new(model(), engine.handle(), setup.http, metrics);
        app.keys = setup.keys.map(Arc::new);
        app.traces = traces;
        let (shutdown, shut_down) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // The engine lives as long as its server.
            let _engine = engine;
            let models = Models::new(vec![app], None).unwrap();
            http::serve(Listeners { public: listener, admin }, models, async { drop(shut_down.await) }).await
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, admin: admin_address, client, counts, gate, task, shutdown: Some(shutdown) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        in_time(self.client.get(self.url(path)).send()).await.unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).json(body)
    }

    /// A translation, which must succeed.
    pub async fn translate(&self, path: &str, body: Value) -> Value {
        let response = in_time(self.post(path, &body).send()).await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{body} was answered with {answer}");
        answer
    }

    /// The sum of the samples of a metric that have these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let samples = scrape.samples.iter().filter(|sample| {
            sample.metric == name && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(*value))
        });
        samples
            .map(|sample| match &sample.value {
                prometheus_parse::Value::Counter(v) | prometheus_parse::Value::Gauge(v) => *v,
                prometheus_parse::Value::Untyped(v) => *v,
                // The number of observations.
                prometheus_parse::Value::Histogram(buckets) => {
                    buckets.last().map_or(0.0, |bucket| bucket.count)
                }
                prometheus_parse::Value::Summary(_) => panic!("{name}: this server has no summaries"),
            })
            .sum()
    }

    /// Waits until the engine has this number of sentences, waiting or running.
    pub async fn until_in_engine(&self, items: f64) {
        in_time(async {
            while self.metric("tutti_queue_depth", &[]).await + self.metric("tutti_running_items", &[]).await
                != items
            {}
        })
        .await;
    }

    /// Blocks a separate thread until the model thread waits at the closed gate.
    pub async fn until_held(&self) {
        let gate = self.gate.clone();
        in_time(tokio::task::spawn_blocking(move || gate.wait_until_held())).await.unwrap();
    }

    /// Shuts down like SIGTERM.
    pub fn shut_down(&mut self) {
        self.shutdown.take().expect("once").send(()).expect("the server listens");
    }

    pub async fn ended(&mut self) -> tutti::Result<()> {
        in_time(&mut self.task).await.unwrap()
    }
}

impl Drop for Server {
    /// Opens the gate, since a waiting model thread would outlive its test.
    fn drop(&mut self) {
        self.gate.open();
        self.task.abort();
    }
}

/// A request as bytes, for tests on the socket.
pub fn raw(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An answer read from a socket: status, headers in lower case, body.
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    pub fn says_close(&self) -> bool {
        self.head.contains("\r\nconnection: close")
    }
}

/// Reads one answer with a `Content-Length`; `None` if the connection ends before it is complete.
pub async fn read_answer(stream: &mut TcpStream) -> Option<RawAnswer> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if in_time(stream.read_buf(&mut bytes)).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length: usize =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().trim().parse().unwrap();
    while bytes.len() < head + length {
        if in_time(stream.read_buf(&mut bytes)).await.ok()? == 0 {
            return None;
        }
    }
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    Some(RawAnswer { status, head: text, body: String::from_utf8_lossy(&bytes[head..]).into_owned() })
}

pub fn en_de(q: impl Into<Value>) -> Value {
    json!({ "q": q.into(), "source": "en", "target": "de" })
}

/// Default number of lengths to try.
pub const DEFAULT_BEAM: usize = 2;

/// The output of `tutti translate` for a text: the same parts without queue, batches and HTTP.
pub fn alone(text: &str, steps: u8, length_beam: usize) -> String {
    let fake = fake();
    let reader = Reader::new(TOKENIZER.clone(), "en", "de", fake.limits().source_tokens);
    let options = DecodeOptions { length_beam, ..DecodeOptions::new(Steps::new(steps).unwrap()) };
    let mut passages = [reader.read(text)];
    translate_passages(&fake, &mut passages, &options).unwrap();
    passages[0].text()
}
