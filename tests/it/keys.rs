//! API keys, in each API.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tutti::http::{Keys, new_key};
use tutti::settings::HttpSettings;

use crate::clients::multipart;
use crate::support::{Server, Setup, en_de, in_time};

struct Guarded {
    server: Server,
    key: String,
    _folder: TempDir,
}

/// A server with one key with these `limits`.
async fn guarded(limits: &str) -> Guarded {
    guarded_with(limits, |_| ()).await
}

async fn guarded_with(limits: &str, change: impl FnOnce(&mut HttpSettings)) -> Guarded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let (key, entry) = new_key("test");
    std::fs::write(&path, format!("{entry}{limits}")).unwrap();
    let mut setup = Setup { keys: Some(Keys::open(&path).unwrap()), ..Setup::default() };
    change(&mut setup.http);
    Guarded { server: Server::start(setup).await, key, _folder: folder }
}

async fn answer(request: RequestBuilder) -> (u16, Value, Option<String>) {
    let response = in_time(request.send()).await.unwrap();
    let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
    (response.status().as_u16(), response.json().await.unwrap(), wait)
}

#[tokio::test]
async fn every_dialect_says_who_may_ask_in_its_own_words() {
    let Guarded { server, key, .. } = guarded("").await;
    let deepl = json!({ "text": ["Hello."], "source_lang": "EN", "target_lang": "DE" });
    let mtran = json!({ "text": "Hello.", "from": "en", "to": "de" });
    // Path, body, status, text without a key, text with a wrong key; `error` or `message`.
    for (path, body, missing, field) in [
        ("/translate", en_de("Hello."), 401, "error"),
        ("/detect", json!({ "q": "Hello." }), 401, "error"),
        ("/v2/translate", deepl, 403, "message"),
        ("/kiss", mtran, 401, "error"),
    ] {
        let post = || server.post(path, &body);
        let (status, said, _) = answer(post()).await;
        assert_eq!(status, missing, "{path}: {said}");
        assert!(said[field].as_str().unwrap().contains("an API key is needed"), "{path}: {said}");
        for wrong in [post().bearer_auth("tutti-nobodys"), post().query(&[("api_key", "x")])] {
            let (status, said, _) = answer(wrong).await;
            assert_eq!((status, said[field].as_str()), (403, Some("Invalid API key")), "{path}: {said}");
        }
        for right in [
            post().bearer_auth(&key),
            post().header("authorization", format!("DeepL-Auth-Key {key}")),
            post().header("authorization", format!("Token {key}")),
            post().header("authorization", &key),
            post().query(&[("api_key", &key)]),
            post().query(&[("token", &key)]),
            post().query(&[("api_token", &key)]),
            post().header("x-api-token", &key),
        ] {
            let (status, said, _) = answer(right).await;
            assert_eq!(status, 200, "{path}: {said}");
        }
    }
}

#[tokio::test]
async fn a_key_in_the_body_counts_as_json_and_as_a_form() {
    let Guarded { server, key, .. } = guarded("").await;
    let mut body = en_de("Hello.");
    body["api_key"] = key.clone().into();
    assert_eq!(answer(server.post("/translate", &body)).await.0, 200);
    let form = format!("q=Hello.&source=en&target=de&api_key={key}");
    let form = server
        .client
        .post(server.url("/translate"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    assert_eq!(answer(form).await.0, 200);
    body["api_key"] = "wrong".into();
    assert_eq!(answer(server.post("/translate", &body)).await.0, 403);
    // DeepL's name for it, which clients put into a form or the query.
    let deepl = |path: &str, key: &str| {
        let post = server.client.post(server.url(path));
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        post.body(format!("text=Hello.&source_lang=EN&target_lang=DE{key}"))
    };
    let in_body = format!("&auth_key={key}");
    assert_eq!(answer(deepl("/v2/translate", &in_body)).await.0, 200);
    assert_eq!(answer(deepl(&format!("/v2/translate?auth_key={key}"), "")).await.0, 200);
    let (status, said, _) = answer(deepl("/v2/translate", "&auth_key=wrong")).await;
    assert!(status == 403 && said["message"] == "Invalid API key", "{said}");
}

#[tokio::test]
async fn a_key_is_found_in_every_body_that_is_not_too_large() {
    let Guarded { server, key, .. } = guarded("").await;
    let mut body = en_de("Hello.");
    // More than axum's own limit.
    body["padding"] = "x".repeat(3 << 20).into();
    body["api_key"] = key.into();
    assert_eq!(answer(server.post("/translate", &body)).await.0, 200);
}

#[tokio::test]
async fn a_file_comes_with_a_key_in_its_form_and_is_fetched_without() {
    let Guarded { server, key, .. } = guarded("").await;
    let upload = |key: &str| {
        let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"";
        let form = multipart(&[("source", "en"), ("target", "de"), ("api_key", key)]);
        let post = server.client.post(server.url("/translate_file"));
        post.header("content-type", "multipart/form-data; boundary=xYzZY")
            .body(format!("--xYzZY\r\n{head}\r\n\r\nHello.\r\n{form}"))
    };
    assert_eq!(answer(upload("")).await.0, 401);
    assert_eq!(answer(upload("wrong")).await.0, 403);
    let (status, said, _) = answer(upload(&key)).await;
    assert_eq!(status, 200, "{said}");
    let address = said["translatedFileUrl"].as_str().unwrap();
    assert_eq!(in_time(server.client.get(address).send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn credentials_for_a_proxy_and_a_scheme_alone_hide_no_key() {
    let Guarded { server, key, .. } = guarded("").await;
    let body = en_de("Hello.");
    let mut with_key = body.clone();
    with_key["api_key"] = key.clone().into();
    for authorization in [
        "Basic cHJveHk6c2VjcmV0",
        "Digest username=proxy",
        "Bearer",
        "Basic",
        "negotiate",
        "NTLM",
        "Token",
        "",
    ] {
        let post = |body: &Value| server.post("/translate", body).header("authorization", authorization);
        assert_eq!(answer(post(&body)).await.0, 401, "{authorization}");
        for right in [
            post(&with_key),
            post(&body).query(&[("api_key", &key)]),
            post(&body).header("x-api-token", &key),
            post(&body).bearer_auth(&key), // a second header
        ] {
            assert_eq!(answer(right).await.0, 200, "{authorization}");
        }
    }
    let wrong = server.post("/translate", &with_key).bearer_auth("wrong");
    assert_eq!(answer(wrong).await.0, 403);
}

#[tokio::test]
async fn an_empty_key_hides_no_other() {
    let Guarded { server, key, .. } = guarded("").await;
    let mut body = en_de("Hello.");
    let none = server.post("/translate?token=", &body).header("x-api-token", "");
    assert_eq!(answer(none).await.0, 401);
    for right in [
        server.post("/translate", &body).header("x-api-token", "").header("x-api-token", &key),
        server.post("/translate", &body).header("x-api-token", " ").query(&[("token", &key)]),
        server.post("/translate?token=", &body).query(&[("api_key", &key)]),
    ] {
        assert_eq!(answer(right).await.0, 200);
    }
    body["auth_key"] = key.into();
    for (path, empty) in
        [("/translate", "api_key"), ("/translate?token=", "token"), ("/translate?api_key=", "x")]
    {
        let mut body = body.clone();
        body[empty] = "".into();
        let right = server.post(path, &body).header("x-api-token", "");
        assert_eq!(answer(right).await.0, 200, "{path}, {empty}");
    }
}

#[tokio::test]
async fn whoever_only_watches_or_reads_needs_no_key() {
    let Guarded { server, .. } = guarded("").await;
    for path in
        ["/health", "/livez", "/readyz", "/startupz", "/metrics", "/info", "/languages", "/frontend/settings"]
    {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    for path in ["/", "/page/style.css", "/page/script.js", "/page/icon.svg"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    // The address of a translated file is a secret of its own.
    assert_eq!(server.get("/download_file/nothing").await.status(), 404);
    assert_eq!(server.get("/nowhere").await.status(), 404);
}

#[tokio::test]
async fn a_rate_and_a_quota_are_kept_for_each_key() {
    let Guarded { server, key, .. } = guarded("requests_per_minute = 2\n").await;
    let ask = || server.post("/translate", &en_de("Hello.")).bearer_auth(&key);
    assert_eq!([answer(ask()).await.0, answer(ask()).await.0], [200, 200]);
    let (status, said, wait) = answer(ask()).await;
    assert_eq!((status, said["code"].as_str()), (429, Some("key_rate")), "{said}");
    assert!((1..=30).contains(&wait.unwrap().parse::<u64>().unwrap()));

    let Guarded { server, key, .. } = guarded("characters_per_day = 10\n").await;
    let ask = || server.post("/translate", &en_de("Hello.")).bearer_auth(&key);
    assert_eq!(answer(ask()).await.0, 200);
    let (status, said, _) = answer(ask()).await;
    assert_eq!((status, said["code"].as_str()), (429, Some("key_quota")), "{said}");
    let deepl = json!({ "text": ["Hello."], "target_lang": "DE" });
    let deepl = server.post("/v2/translate", &deepl).header("authorization", format!("DeepL-Auth-Key {key}"));
    assert_eq!(answer(deepl).await.0, 456);
}

#[tokio::test]
async fn a_text_that_is_refused_as_too_large_costs_nothing() {
    let Guarded { server, key, .. } =
        guarded_with("characters_per_day = 50\n", |http| http.max_text_chars = 30).await;
    let ask = |length: usize| server.post("/translate", &en_de("a".repeat(length))).bearer_auth(&key);
    assert_eq!(answer(ask(40)).await.0, 413);
    assert_eq!([answer(ask(25)).await.0, answer(ask(25)).await.0], [200, 200]);
    assert_eq!(answer(ask(1)).await.0, 429);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_where_origins_are_named() {
    let mut setup = Setup::default();
    setup.http.cors_origins = Some(vec!["https://example.org".into()]);
    let server = Server::start(setup).await;
    let allowed = async |origin: &str| {
        let request = server.client.get(server.url("/languages")).header("origin", origin);
        let response = in_time(request.send()).await.unwrap();
        response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed("https://example.org").await.as_deref(), Some("https://example.org"));
    assert_eq!(allowed("https://example.net").await, None);
}
