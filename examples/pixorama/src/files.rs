//! Files: the page, and the client of the streams. They are compiled in, and nothing is loaded from elsewhere.

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! client {
    ($($name:literal)+) => {
        [$(($name, include_str!(concat!("../../../clients/typescript/src/", $name)))),+]
    };
}

/// The modules of the client, as they are in its folder.
const CLIENT: [(&str, &str); 20] = client!(
    "backoff.js" "call.js" "client.js" "connection.js" "credentials.js" "endpoints.js" "errors.js" "events.js"
    "frames.js" "index.js" "input.js" "platform.js" "queue.js" "receiving.js" "reconnecting.js" "sending.js"
    "socket.js" "status.js" "stream.js" "values.js"
);

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(|| file(HTML, include_str!("../assets/index.html"))))
        .route("/style.css", get(|| file(STYLE, include_str!("../assets/style.css"))))
        .route("/app.js", get(|| file(SCRIPT, include_str!("../assets/app.js"))))
        .route("/board.js", get(|| file(SCRIPT, include_str!("../assets/board.js"))))
        .route("/chat.js", get(|| file(SCRIPT, include_str!("../assets/chat.js"))))
        .route("/client/{name}", get(client))
}

async fn client(Path(name): Path<String>) -> Response {
    match CLIENT.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => file(SCRIPT, text).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that is added there has to be added here.
    #[test]
    fn every_module_of_the_client_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/typescript/src");
        let names = std::fs::read_dir(folder).expect("the client").filter_map(|entry| {
            entry.expect("an entry").file_name().into_string().ok().filter(|name| name.ends_with(".js"))
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        assert_eq!(names, CLIENT.map(|(name, _)| name));
    }
}
