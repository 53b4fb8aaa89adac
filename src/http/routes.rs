//! Every path that the router serves, as patterns: the labels of the request metrics. A table without
//! handlers, so that the metrics can be registered before there is a router.

pub const ROUTES: [&str; 40] = [
    // For people.
    "/",
    "/page/{file}",
    // The own dialect and LibreTranslate's.
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
    // For those who read about the server or watch it.
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
