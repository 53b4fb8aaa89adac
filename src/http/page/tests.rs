use std::collections::HashSet;

use axum::body::Body;
use tower::ServiceExt;

use super::*;

fn content(name: &str) -> &'static str {
    FILES.iter().find(|file| file.name == name).unwrap().content
}

/// All texts between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0))
}

async fn request_file(prefix: &str, path: &str, headers: &[(HeaderName, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    routes::<()>(prefix).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[test]
fn the_html_has_every_element_that_the_script_uses() {
    let (html, script) = (content(""), content("script.js"));
    let ids: HashSet<&str> = between(html, " id=\"", '"').collect();
    let used: HashSet<&str> = between(script, "byId(\"", '"').collect();
    assert!(used.len() > 10, "{used:?}");
    let missing: Vec<_> = used.difference(&ids).collect();
    assert!(missing.is_empty(), "the page has no {missing:?}");
    let classes: HashSet<&str> = between(html, "class=\"", '"').flat_map(str::split_whitespace).collect();
    for class in between(script, "part(\".", '"') {
        assert!(classes.contains(class), "the page has no class {class}");
    }
}

#[test]
fn both_languages_have_every_string_that_the_page_uses() {
    let (html, script) = (content(""), content("script.js"));
    let table = script.split_once("const STRINGS = {").unwrap().1.split_once("\n};").unwrap().0;
    let (english, german) = table.split_once("\n  de: {").unwrap();
    let of_html = ["data-t=\"", "data-t-label=\"", "data-t-placeholder=\""];
    let of_html = of_html.into_iter().flat_map(|attribute| between(html, attribute, '"'));
    let of_script = script.match_indices("t(\"").filter_map(|(place, call)| {
        let named = script[..place].ends_with(char::is_alphabetic);
        (!named).then_some(script[place + call.len()..].split('"').next()?)
    });
    for key in of_html.chain(of_script) {
        for (language, strings) in [("English", english), ("German", german)] {
            let there = strings.contains(&format!(" {key}: \""));
            assert!(there, "no {language} string for {key:?}");
        }
    }
    let keys = |strings: &'static str| strings.matches(": \"").count();
    assert_eq!(keys(english), keys(german));
}

#[test]
fn nothing_is_loaded_from_other_hosts_and_no_script_is_inline() {
    for file in &*FILES {
        let text = file.content.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "@import"] {
            assert!(!text.contains(foreign), "{:?} contains {foreign}", file.name);
        }
    }
    assert!(!content("style.css").contains("url("));
    let html = content("");
    for inline in ["<style", " style=", " onclick", " onload", "javascript:", "<script>"] {
        assert!(!html.contains(inline), "the policy blocks {inline}");
    }
}

#[tokio::test]
async fn every_file_has_a_type_a_policy_and_an_etag() {
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/script.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let response = request_file("", path, &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], media_type);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            assert_eq!(
                request_file("", path, &[(header::IF_NONE_MATCH, &known)]).await.status(),
                304,
                "{known}"
            );
        }
        assert_eq!(request_file("", path, &[(header::IF_NONE_MATCH, "\"other\"")]).await.status(), 200);
    }
    assert_eq!(request_file("", "/page/other.js", &[]).await.status(), 404);
    assert_eq!(request_file("", "/page/", &[]).await.status(), 404);
}

#[tokio::test]
async fn with_a_prefix_the_page_has_a_base_address() {
    let response = request_file("/tutti", "/", &[]).await;
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("<base href=\"/tutti/\">"));
}
