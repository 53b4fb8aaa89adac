//! The web page in a browser.

use crate::support::{Server, Setup, in_time};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn the_page_is_at_the_root_and_its_files_are_where_it_looks() {
    let server = Server::start(Setup::default()).await;
    let page = server.get("/").await;
    assert_eq!(page.status(), 200);
    assert!(page.headers().contains_key("content-security-policy"));
    let html = page.text().await.unwrap();
    let mut files = 0;
    for attribute in ["href=\"page/", "src=\"page/"] {
        for rest in html.split(attribute).skip(1) {
            let file = rest.split('"').next().unwrap();
            assert_eq!(server.get(&format!("/page/{file}")).await.status(), 200, "{file}");
            files += 1;
        }
    }
    assert_eq!(files, 3);
    assert_eq!(server.metric("tutti_http_requests_total", &[("route", "/"), ("code", "200")]).await, 1.0);
}

#[tokio::test]
async fn a_browser_at_an_address_for_programs_is_shown_the_way_to_the_page() {
    let server = Server::start(Setup::default()).await;
    for (path, status) in [("/translate?q=where", 405), ("/nowhere", 404)] {
        let browser = server.client.get(server.url(path)).header("accept", BROWSER);
        let response = in_time(browser.send()).await.unwrap();
        assert_eq!(response.status(), status);
        let text = response.text().await.unwrap();
        assert!(text.contains("<a href=\"/\">"), "{text}");

        let response = server.get(path).await;
        assert_eq!(response.status(), status);
        let json: serde_json::Value = response.json().await.unwrap();
        assert!(json["error"].is_string(), "{json}");
    }
}

#[tokio::test]
async fn under_a_prefix_the_page_and_the_way_to_it_have_the_prefix() {
    let mut setup = Setup::default();
    setup.http.url_prefix = "/translator".into();
    let server = Server::start(setup).await;
    for path in ["/translator", "/translator/", "/translator/page/script.js"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let browser = server.client.get(server.url("/translator/nowhere")).header("accept", BROWSER);
    let text = in_time(browser.send()).await.unwrap().text().await.unwrap();
    assert!(text.contains("<a href=\"/translator/\">"), "{text}");
}
