//! `/healthz`, `/readyz` and `/metrics`.
//!
//! hyper reads and writes HTTP/1; each connection has one request and so much time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{self, Duration};

use super::bounded::Bounded;
use super::{Server, open};
use crate::agent::{metrics, status};

/// Connections at once.
const CONNECTIONS: usize = 64;

/// Time for a request's headers.
const HEADERS: Duration = Duration::from_secs(5);

/// Time for a whole connection.
const CONNECTION: Duration = Duration::from_secs(15);

/// Bytes of a request's line and headers. hyper answers 431 to more.
const HEAD: usize = 16 << 10;

/// After an error of accept(2), as without free file descriptors: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers as long as there is a server; waits for the port if it is another's.
pub(super) async fn serve(app: &Arc<Server>, bound: &watch::Sender<Option<SocketAddr>>) {
    let Some(address) = app.bind else {
        return std::future::pending().await;
    };
    let what = format!("{address} for health and metrics");
    let remedy = "free the port, or name another with --metrics-bind";
    let listener = open(&what, remedy, || TcpListener::bind(address)).await;
    bound.send_replace(listener.local_addr().ok());
    let mut connections = Bounded::new(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.spawn(connection(app.clone(), stream)),
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}

async fn connection(app: Arc<Server>, stream: TcpStream) {
    let answer = service_fn(|request| {
        let response = respond(&app, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    // Whatever went wrong is the client's: it was told, or is gone.
    let _ = time::timeout(CONNECTION, connection).await;
}

fn respond(app: &Server, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD\n".to_owned(),
        );
        let methods = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, methods);
        return response;
    }
    match request.uri().path() {
        "/healthz" if app.has_engine() => text(StatusCode::OK, "ok\n".to_owned()),
        "/healthz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine has ended\n".to_owned(),
        ),
        "/readyz" => match status::unready(&app.snapshot()) {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => match app.metrics.text(&app.snapshot()) {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "/healthz, /readyz, /metrics\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
