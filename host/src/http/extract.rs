//! What routes take out of the head of a request, refused as problem+json where it is not as it
//! should be.

use super::{problem::Problem, query::Query};
use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

/// For a route without query parameters: a request that has any is refused (`query.unknown`), so
/// that nobody takes one that is not looked at for one that was followed.
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query(), &[]).map(|_| Self)
    }
}

/// The one parameter in the path of a route.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::from_request_parts(parts, state).await.map_err(|error| {
            Problem::field("path.encoding", "path", "percent-encoded UTF-8 (RFC 3986, section 2.1)", error.body_text())
        })?;
        Ok(Self(text))
    }
}
