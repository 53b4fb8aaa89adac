//! The patterns of all routes, which label the request metrics. They are separate from the handlers, so that the
//! metrics can be registered before the router exists.

pub const ROUTES: [&str; 40] = [
    // The web page.
    "/",
    "/page/{file}",
    // LibreTranslate's API and extensions.
    "/translate",
    "/translate/stream",
    "/languages",
    "/detect",
    "/frontend/settings",
    "/suggest",
    "/translate_file",
    "/download_file/{name}",
    "/glossaries",
    "/glossaries/{id}",
    // DeepL's.
    "/v2/translate",
    "/v2/languages",
    "/v2/usage",
    "/v2/glossary-language-pairs",
    "/v2/glossaries",
    "/v2/glossaries/{id}",
    "/v2/glossaries/{id}/entries",
    "/v2/document",
    "/v2/document/{id}",
    "/v2/document/{id}/result",
    // MTranServer's.
    "/translate/batch",
    "/imme",
    "/kiss",
    "/deeplx",
    "/models",
    "/version",
    "/__heartbeat__",
    "/__lbheartbeat__",
    // Documentation and monitoring.
    "/spec",
    "/openapi.json",
    "/docs",
    "/docs/{*file}",
    "/health",
    "/livez",
    "/readyz",
    "/startupz",
    "/info",
    "/metrics",
];
