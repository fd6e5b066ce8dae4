//! The small HTTP endpoint: `/metrics`, `/healthz`, `/readyz`. Plain text, no access control: it
//! belongs on loopback, and tells nothing but numbers.

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use orchestra_telemetry::Scrape;
use tokio::net::TcpListener;

/// The endpoint's routes. `ready` says why the head cannot take work, if it cannot.
pub fn router(
    scrape: Scrape,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> Router {
    let ready = Arc::new(ready);
    Router::new()
        .route("/metrics", get(move || metrics(scrape.clone())))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readiness(ready())))
}

/// Serves until `stop` is there.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

async fn metrics(scrape: Scrape) -> Response {
    // Gathering looks at files, so it may wait.
    let text = tokio::task::spawn_blocking(move || scrape.text()).await;
    match text {
        Ok(Ok(text)) => ([(CONTENT_TYPE, Scrape::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the metrics could not be gathered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(ready: Result<(), String>) -> Response {
    match ready {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
