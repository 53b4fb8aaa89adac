//! Several models in one server, and models that are reloaded while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tutti::Error;
use tutti::engine::{self, Engine};
use tutti::http::{self, App, Listeners, Loader, Model, Models, Pair};
use tutti::metrics::Metrics;

use crate::support::{Setup, fake, in_time, model};

struct Several {
    url: String,
    admin: String,
    client: reqwest::Client,
    _shutdown: oneshot::Sender<()>,
}

fn start(name: &str, source: &str, target: &str, checksum: &str, metrics: &Metrics) -> (Model, Engine) {
    let engine = engine::start(fake(), Setup::default().engine, metrics.engine(name)).unwrap();
    let pair = Pair { source: source.into(), target: target.into() };
    (Model { name: name.into(), pair, checksum: checksum.into(), ..model() }, engine)
}

/// `ende` and `deen`; the first reload of `ende` fails.
async fn several() -> Several {
    let metrics = Arc::new(Metrics::new());
    let (ende, engine) = start("ende", "en", "de", "one", &metrics);
    let first = App::new(ende, engine.handle(), Setup::default().http, metrics.clone()).owning(engine);
    let (deen, engine) = start("deen", "de", "en", "one", &metrics);
    let second = first.with_model(deen, engine);
    let tries = AtomicUsize::new(0);
    let loader: Loader = Box::new(move |name| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(Error::bundle("models/ende", "was cut while copying"));
        }
        Ok(start(name, "en", "de", "two", &metrics))
    });
    let models = Models::new(vec![first, second], Some(loader)).unwrap();
    let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let (url, admin_url) = (address(&public), address(&admin));
    let (shutdown, told) = oneshot::channel::<()>();
    let listeners = Listeners { public, admin: Some(admin) };
    tokio::spawn(async move { http::serve(listeners, models, async { drop(told.await) }).await });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let several = Several { url, admin: admin_url, client, _shutdown: shutdown };
    in_time(async { while several.get("/readyz").await.0 != 200 {} }).await;
    several
}

impl Several {
    async fn get(&self, path: &str) -> (u16, Value) {
        let response = in_time(self.client.get(format!("{}{path}", self.url)).send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn post(&self, url: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(format!("{url}{path}")).json(&body);
        let response = in_time(request.send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn checksum(&self, name: &str) -> String {
        let (_, info) = self.get("/info").await;
        let models = info["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == name).unwrap();
        model["checksum"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_request_goes_to_the_model_of_its_languages_or_of_its_name() {
    let server = several().await;
    let ask = async |source: &str, target: &str, model: Option<&str>| {
        let body = json!({ "q": "Hello.", "source": source, "target": target, "model": model, "steps": 1 });
        server.post(&server.url, "/translate", body).await
    };
    for (source, target, model, name) in [
        ("en", "de", None, "ende"),
        ("de", "en", None, "deen"),
        ("de-AT", "en-GB", None, "deen"),
        ("de", "en", Some("deen"), "deen"),
    ] {
        let (status, answer) = ask(source, target, model).await;
        assert_eq!(
            (status, answer["meta"]["model"].as_str()),
            (200, Some(name)),
            "{source} {target}: {answer}"
        );
    }
    let (status, answer) = ask("en", "de", Some("deen")).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("not available"), "{answer}");
    let (status, answer) = ask("en", "de", Some("large")).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("Invalid request: model large is not served")));
    let deepl = json!({ "text": ["Hallo."], "source_lang": "DE", "target_lang": "EN-US" });
    assert_eq!(server.post(&server.url, "/v2/translate", deepl).await.0, 200);

    let (_, languages) = server.get("/languages").await;
    let targets = |code: &str| {
        let language =
            languages.as_array().unwrap().iter().find(|language| language["code"] == code).unwrap();
        language["targets"].clone()
    };
    assert_eq!((targets("en"), targets("de")), (json!(["de"]), json!(["en"])));
    let (_, info) = server.get("/info").await;
    assert_eq!(info["models"].as_array().unwrap().len(), 2);
    let latency = info["models"][1]["latency"].as_array().unwrap();
    assert_eq!((&latency[0]["steps"], latency.len()), (&json!(1), 7), "{latency:?}");
}

#[tokio::test]
async fn a_model_is_loaded_again_or_stays_as_it_was() {
    let server = several().await;
    let reload = async |name: &str| {
        server.post(&server.admin, &format!("/admin/models/{name}/reload"), Value::Null).await
    };
    let (status, answer) = reload("ende").await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("was cut while copying"), "{answer}");
    assert_eq!(server.checksum("ende").await, "one");

    // No request fails during the reload.
    let body = || json!({ "q": "Hello.", "source": "en", "target": "de" });
    let asking = async {
        for _ in 0..50 {
            let (status, answer) = server.post(&server.url, "/translate", body()).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let (loaded, ()) = tokio::join!(reload("ende"), asking);
    assert_eq!(loaded, (200, json!({ "name": "ende", "checksum": "two" })));
    assert_eq!((server.checksum("ende").await, server.checksum("deen").await), ("two".into(), "one".into()));
    let text =
        server.client.get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let described: Vec<&str> = text.lines().filter(|line| line.starts_with("tutti_model_info{")).collect();
    assert_eq!(described.iter().filter(|line| line.contains("ende")).count(), 1, "{described:?}");

    assert_eq!(reload("large").await.0, 404);
    // Only for operators.
    let (status, _) = server.post(&server.url, "/admin/models/ende/reload", Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_does_not_let_a_second_model_be_loaded_beside_the_first() {
    let metrics = Arc::new(Metrics::new());
    let (ende, engine) = start("ende", "en", "de", "one", &metrics);
    let app = App::new(ende, engine.handle(), Setup::default().http, metrics.clone()).owning(engine);
    let (loading, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, greatest) = (loading.clone(), most.clone());
    let loader: Loader = Box::new(move |name| {
        greatest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(300));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(start(name, "en", "de", "two", &metrics))
    });
    let models = Models::new(vec![app], Some(loader)).unwrap();
    let first = tokio::spawn({
        let models = models.clone();
        async move { models.reload("ende").await }
    });
    in_time(async {
        while loading.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    first.abort();
    in_time(models.reload("ende")).await.unwrap();
    assert_eq!((most.load(Ordering::SeqCst), loading.load(Ordering::SeqCst)), (1, 0));
}
