//! Documents and problems as HTTP answers.

use axum::body::Body;
use bytes::Bytes;
use cascade_api::problem::PROBLEM_JSON;
use cascade_api::{API_HEADER, API_VERSION, Problem, ProblemType};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::backend::Streamed;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub fn json<T: Serialize>(status: u16, document: &T) -> Response<Body> {
    match serde_json::to_vec(document) {
        Ok(body) => raw(status, "application/json", body),
        Err(e) => problem(&Problem::new(
            ProblemType::Bug,
            format!("the answer could not be written: {e}"),
        )),
    }
}

pub fn text(status: u16, text: impl Into<String>) -> Response<Body> {
    raw(status, "text/plain; charset=utf-8", text.into())
}

pub fn raw(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = empty(status);
    *response.body_mut() = Body::from(body.into());
    set(&mut response, header::CONTENT_TYPE, content_type);
    response
}

pub fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Sent as it comes; see [`Streamed`].
pub fn streamed(streamed: Streamed) -> Response<Body> {
    let mut response = empty(200);
    *response.body_mut() = Body::new(Pieces(streamed.pieces));
    set(&mut response, header::CONTENT_TYPE, streamed.content_type);
    response
}

pub fn problem(problem: &Problem) -> Response<Body> {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = raw(problem.status, PROBLEM_JSON, body);
    if let Some(secs) = problem.retry_after_secs {
        set(&mut response, header::RETRY_AFTER, &secs.to_string());
    }
    if problem.kind == ProblemType::NotAuthenticated {
        set(&mut response, header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

/// Sets a header; a value that cannot be one is left out.
pub fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// What every answer carries.
pub fn finish(response: &mut Response<Body>, request_id: &str) {
    set(response, HeaderName::from_static(API_HEADER), API_VERSION);
    set(response, REQUEST_ID, request_id);
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        set(response, header::CACHE_CONTROL, "no-store");
    }
}

struct Pieces(tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|p| p.map(hyper::body::Frame::data)))
    }
}
